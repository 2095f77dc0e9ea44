import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { RunRetention } from '../../../src/consumers/sweep/sweep.ts';
import type { RunStatus } from '../../../src/contracts/index.ts';
import { useDatabase } from '../../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun } from '../../support/factories.ts';
import { silentLogger } from '../fixture.ts';

const database = useDatabase({ maximumConnections: 20 });

const RETENTION_SECONDS = 3_600;

const retention = (batchSize = 500) =>
  new RunRetention({ db: database.db, logger: silentLogger, batchSize, retentionSeconds: RETENTION_SECONDS });

// Rotations visit every old run there is.
beforeEach(async () => {
  await database.sql`truncate lessor.companies, lessor.activity_log cascade`;
});

/** How old a run is, in seconds, by each of its columns. */
interface Ages {
  created: number;
  finished: number;
  updated: number;
}

const LONG_PAST: Ages = { created: 7_200, finished: 7_100, updated: 7_100 };

async function runOfAge(companyId: string, status: RunStatus = 'succeeded', ages: Partial<Ages> = {}): Promise<string> {
  const { created, finished, updated } = { ...LONG_PAST, ...ages };
  const id = await insertRun(database.sql, { companyId, status });
  await database.sql`
    update lessor.heartbeat_runs set
      created_at = now() - make_interval(secs => ${created}),
      finished_at = case when finished_at is not null then now() - make_interval(secs => ${finished}) end,
      updated_at = now() - make_interval(secs => ${updated})
    where id = ${id}`;
  return id;
}

async function runsLeft(): Promise<string[]> {
  const rows = await database.sql<{ id: string }[]>`select id from lessor.heartbeat_runs`;
  return rows.map(({ id }) => id);
}

describe('a run past its retention', () => {
  test.for(['succeeded', 'failed', 'cancelled', 'timed_out'] as const)('is removed when it has %s', async (status) => {
    await runOfAge(await insertCompany(database.sql), status);
    expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
    expect(await runsLeft()).toEqual([]);
  });

  test.for(['queued', 'running'] as const)('is kept while it is %s', async (status) => {
    const run = await runOfAge(await insertCompany(database.sql), status);
    expect(await retention().sweep()).toEqual({ done: 0, failed: 0 });
    expect(await runsLeft()).toEqual([run]);
  });

  test.for([
    ['was created', { created: 3_500 }],
    ['ended', { finished: 3_500 }],
    ['was last updated, by the clock of the database,', { updated: 3_500 }],
  ] as const)('is kept while it %s within the retention', async ([, ages]) => {
    const run = await runOfAge(await insertCompany(database.sql), 'succeeded', ages);
    expect(await retention().sweep()).toEqual({ done: 0, failed: 0 });
    expect(await runsLeft()).toEqual([run]);
  });

  test('is kept while it has a lease, even an ended one', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const environmentId = await insertEnvironment(sql, { companyId });
    const runId = await runOfAge(companyId);
    await insertLease(sql, { companyId, environmentId, runId, status: 'released', cleanupStatus: 'success' });
    expect(await retention().sweep()).toEqual({ done: 0, failed: 0 });
    expect(await runsLeft()).toEqual([runId]);
  });

  test('is removed with its workspace wait, and its activity events are kept', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const environmentId = await insertEnvironment(sql, { companyId });
    const runId = await runOfAge(companyId);
    await sql`
      insert into lessor.workspace_waits
        (run_id, company_id, environment_id, execution_workspace_id, waiting_since, last_asked_at)
      values (${runId}, ${companyId}, ${environmentId}, ${randomUUID()}, now(), now())`;
    await sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
      values (${companyId}, 'test', 'environment.lease_denied', 'heartbeat_run', ${runId}, ${runId})`;
    expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
    expect(await sql`select from lessor.workspace_waits`).toHaveLength(0);
    expect(await sql`select from lessor.activity_log where run_id = ${runId}`).toHaveLength(1);
  });
});

describe('the retention cursor', () => {
  test('reads four pages a sweep and continues where the last sweep stopped', async () => {
    const companyId = await insertCompany(database.sql);
    // The oldest are kept, so that only a cursor that passes them finds the others.
    for (let age = 20; age > 10; age -= 1) await runOfAge(companyId, 'running', { created: 7_200 + age });
    const removable = [];
    for (let age = 10; age > 0; age -= 1) removable.push(await runOfAge(companyId, 'failed', { created: 7_200 + age }));
    const sweeper = retention(2);
    expect(await sweeper.sweep()).toEqual({ done: 0, failed: 0 });
    expect(await sweeper.sweep()).toEqual({ done: 6, failed: 0 });
    expect(await runsLeft()).toEqual(expect.arrayContaining(removable.slice(6)));
    expect(await sweeper.sweep()).toEqual({ done: 4, failed: 0 });
  });

  test('starts again after the last run, and finds runs that passed their retention meanwhile', async () => {
    const companyId = await insertCompany(database.sql);
    const running = await runOfAge(companyId, 'running');
    const sweeper = retention();
    expect(await sweeper.sweep()).toEqual({ done: 0, failed: 0 });
    await database.sql`
      update lessor.heartbeat_runs set status = 'failed', finished_at = created_at where id = ${running}`;
    expect(await sweeper.sweep()).toEqual({ done: 1, failed: 0 });
  });

  test('finds all runs created at the same instant, even when a page holds two', async () => {
    const companyId = await insertCompany(database.sql);
    for (let number = 0; number < 7; number += 1) await runOfAge(companyId);
    await database.sql`update lessor.heartbeat_runs set created_at = now() - interval '3 h'`;
    expect(await retention(2).sweep()).toEqual({ done: 7, failed: 0 });
  });
});

describe('isolated: the retention', () => {
  test('skips a run that another transaction has locked', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const locked = await runOfAge(companyId);
    await runOfAge(companyId);
    await sql.begin(async (other) => {
      await other`select from lessor.heartbeat_runs where id = ${locked} for key share`;
      // That the sweep ends while the lock is held shows that it does not wait.
      expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
    });
    expect(await runsLeft()).toEqual([locked]);
    expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
  });

  test('same-company: keeps a run that is leased while it is being removed, without an error', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const environmentId = await insertEnvironment(sql, { companyId });
    const runs = [];
    for (let number = 0; number < 30; number += 1) runs.push(await runOfAge(companyId));
    const lease = { companyId, environmentId, status: 'released', cleanupStatus: 'success' } as const;
    const leasing = Promise.allSettled(runs.map((runId) => insertLease(sql, { ...lease, runId })));
    const sweeping = Array.from({ length: 5 }, () => retention(3).sweep());
    const outcomes = await leasing;
    const swept = await Promise.all(sweeping);
    const last = await retention().sweep();
    expect([...swept, last].map(({ failed }) => failed)).toEqual([0, 0, 0, 0, 0, 0]);
    // A lease that was inserted too late found no run.
    const rejected = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason as unknown);
    expect(rejected).toMatchObject(rejected.map(() => ({ constraint_name: 'environment_leases_run_fk' })));
    const leased = runs.filter((_, position) => outcomes[position]!.status === 'fulfilled');
    expect((await runsLeft()).toSorted()).toEqual(leased.toSorted());
  });

  test('removes the other runs when Postgres rejects the removal of one, and counts that as failed', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const referenced = await runOfAge(companyId);
    for (let number = 0; number < 4; number += 1) await runOfAge(companyId);
    // As a table of a control plane in the same database may do.
    await sql`create table notes (run_id uuid references lessor.heartbeat_runs)`;
    try {
      await sql`insert into notes values (${referenced})`;
      expect(await retention().sweep()).toEqual({ done: 4, failed: 1 });
      expect(await runsLeft()).toEqual([referenced]);
    } finally {
      await sql`drop table notes`;
    }
    expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
  });
});
