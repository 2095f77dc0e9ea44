import { beforeEach, describe, expect, test } from 'vitest';
import { auditRuns } from '../../bench/audit.ts';
import { store } from '../../bench/contenders/store.ts';
import { planCompanies, planRuns } from '../../bench/workload.ts';
import type { Run } from '../../bench/workload.ts';
import { useDatabase } from '../support/database.ts';

const database = useDatabase();
let runs: Run[];

/** Writes runs with the set-based contender. */
beforeEach(async () => {
  await database.sql`truncate lessor.companies, lessor.activity_log cascade`;
  runs = planRuns(4, planCompanies(2));
  await write(runs);
});

async function write(those: readonly Run[]): Promise<void> {
  const contender = await store.open({ databaseUrl: database.url, redisUrl: '' }, those);
  for (const phase of ['start', 'finish'] as const) {
    await contender.load(phase);
    await contender.drain();
  }
  await contender.close();
}

const audit = () => auditRuns(database.url, runs);

test('the bench’s audit finds nothing in runs that were written once each', async () => {
  expect(await audit()).toEqual([]);
});

describe('the bench’s audit reports', () => {
  test('a missing run', async () => {
    runs.push(...planRuns(1, [runs[0]!.companyId]));
    expect(await audit()).toContainEqual(expect.stringContaining('lost'));
  });

  test('an unexpected run', async () => {
    await write(planRuns(1, [runs[0]!.companyId]));
    expect(await audit()).toContainEqual(expect.stringContaining('5 leases instead of 4'));
  });

  test('a second lease of a run', async () => {
    await database.sql`
      insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, status, ttl_seconds,
        expires_at, released_at, cleanup_status)
      select company_id, environment_id, heartbeat_run_id, 'released', 300, expires_at, released_at, 'success'
      from lessor.environment_leases limit 1`;
    expect(await audit()).toContainEqual(expect.stringContaining('duplicated'));
  });

  test('a duplicated and a missing event', async () => {
    await database.sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
      select company_id, actor_id, action, entity_type, entity_id, run_id from lessor.activity_log
      where action = 'environment.lease_released' limit 1`;
    expect(await audit()).toContainEqual(expect.stringContaining('released 2 of 3 events'));
    await database.sql`delete from lessor.activity_log where action = 'environment.lease_released'`;
    expect(await audit()).toContainEqual(expect.stringContaining('released 0 of 1 events'));
  });

  test('a run whose context does not name its lease', async () => {
    await database.sql`update lessor.heartbeat_runs set context_snapshot = '{}' where id = ${runs[0]!.runId}`;
    expect(await audit()).toContainEqual(expect.stringContaining(runs[0]!.runId));
  });

  test('runs that have not ended, unless the measurement ends with their start', async () => {
    await database.sql`truncate lessor.companies, lessor.activity_log cascade`;
    const contender = await store.open({ databaseUrl: database.url, redisUrl: '' }, runs);
    await contender.load('start');
    await contender.drain();
    await contender.close();
    expect(await audit()).toContainEqual(expect.stringContaining('it has not ended'));
    expect(await auditRuns(database.url, runs, { ended: false })).toEqual([]);
  });
});
