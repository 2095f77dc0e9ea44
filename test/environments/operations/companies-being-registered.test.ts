import { describe, expect, test } from 'vitest';
import type { RunStarted } from '../../../src/contracts/index.ts';
import type { WorkerPool } from '../../../src/db/worker-pool.ts';
import type { Operation } from '../../../src/environments/operations/operation.ts';
import { ProvisionedCompanies, applyFastPath } from '../../../src/environments/operations/fast-path.ts';
import { useDatabase } from '../../support/database.ts';
import { runFinished, runHeartbeat, runStarted } from '../../support/factories.ts';
import { OPERATION_SETTINGS, finish, renew, start, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ audited: true });

const register = (started: RunStarted) => applyFastPath(database.pool, [start(started)], OPERATION_SETTINGS);

describe('fenced: operations of a company that is registered after the locks were taken fall through', () => {
  test.for([
    ['starts', (started) => start(runStarted({ companyId: started.companyId }))],
    ['heartbeats', (started) => renew(runHeartbeat(started))],
    ['ends', (started) => finish(runFinished(started))],
  ] satisfies [string, (started: RunStarted) => Operation][])('%s', async ([, operationAfter]) => {
    const started = runStarted();
    const meanwhile = () => register(started);
    const operations = [operationAfter(started)];
    const provisioned = new ProvisionedCompanies();
    provisioned.add(started.companyId);
    const pool = pausingBehindLocks(meanwhile);
    const outcomes = await applyFastPath(pool, operations, OPERATION_SETTINGS, { provisioned });
    expect(outcomes).toEqual([undefined]);
    expect(await eventsOf(database.sql, started.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('first runs of a company, where only known companies are served', async () => {
    const started = runStarted();
    const meanwhile = () => register(started);
    const settings = { ...OPERATION_SETTINGS, companyRegistration: 'known' } as const;
    const starts = [start(runStarted({ companyId: started.companyId }))];
    expect(await applyFastPath(pausingBehindLocks(meanwhile), starts, settings)).toEqual([undefined]);
    expect(await eventsOf(database.sql, started.companyId)).toEqual(['created', 'lease_acquired']);
  });
});

/** Sends the statements of a pipeline one by one, and has something else happen once the companies are locked. */
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
