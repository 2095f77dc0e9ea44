import { describe, expect, test } from 'vitest';
import type { RunStarted } from '../../src/contracts/index.ts';
import type { WorkerPool } from '../../src/db/worker-pool.ts';
import type { Operation } from '../../src/environments/operations.ts';
import { applyFirstStarts, applyUsualOperations } from '../../src/environments/usual-operations.ts';
import { useDatabase } from '../support/database.ts';
import { runFinished, runHeartbeat, runStarted } from '../support/factories.ts';
import { OPERATION_SETTINGS, finish, renew, start, toldOf } from '../support/operations.ts';

const database = useDatabase({ audited: true });

const applyFirst = (...starts: Operation[]) => applyFirstStarts(database.pool, starts, OPERATION_SETTINGS);

describe('fenced: operations of a company whose lock is not held, as it is registered meanwhile, are left alone', () => {
  test.for([
    ['starts', (started) => start(runStarted({ companyId: started.companyId }))],
    ['heartbeats', (started) => renew(runHeartbeat(started))],
    ['ends', (started) => finish(runFinished(started))],
  ] satisfies [string, (started: RunStarted) => Operation][])('%s', async ([, operationAfter]) => {
    const started = runStarted();
    const meanwhile = () => applyFirst(start(started));
    const operations = [operationAfter(started)];
    const outcomes = await applyUsualOperations(pausingBehindLocks(meanwhile), operations, OPERATION_SETTINGS);
    expect(outcomes).toEqual([undefined]);
    expect(await toldOf(database.sql, started.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('first starts, where companies are registered by others', async () => {
    const started = runStarted();
    const meanwhile = () => applyFirst(start(started));
    const settings = { ...OPERATION_SETTINGS, companyRegistration: 'known' } as const;
    const starts = [start(runStarted({ companyId: started.companyId }))];
    expect(await applyFirstStarts(pausingBehindLocks(meanwhile), starts, settings)).toEqual([undefined]);
    expect(await toldOf(database.sql, started.companyId)).toEqual(['created', 'lease_acquired']);
  });
});

/** Carries out what is sent in one go one by one, and has something else happen once the companies are locked. */
function pausingBehindLocks(meanwhile: () => Promise<unknown>): Pick<WorkerPool, 'pipeline'> {
  return {
    pipeline: (statements) =>
      database.sql.begin(async (tx) => {
        const rows: unknown[][] = [];
        for (const { text, values } of statements) {
          rows.push(await tx.unsafe(text, values));
          if (rows.length === 1) await meanwhile();
        }
        return rows;
      }),
  };
}
