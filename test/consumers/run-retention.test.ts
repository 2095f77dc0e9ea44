import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { RunRetention } from '../../src/consumers/run-retention.ts';
import type { RunStatus } from '../../src/contracts/index.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun } from '../support/factories.ts';
import { silentLogger } from './fixture.ts';

const database = useDatabase({ maximumConnections: 20 });

const RETENTION_SECONDS = 3_600;

const retention = (batchSize = 500) =>
  new RunRetention({ db: database.db, logger: silentLogger, batchSize, retentionSeconds: RETENTION_SECONDS });

// Rounds go over all old runs there are.
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
  test.for(['succeeded', 'failed', 'cancelled', 'timed_out'] as const)('that has %s is removed', async (status) => {
    await runOfAge(await insertCompany(database.sql), status);
    expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
    expect(await runsLeft()).toEqual([]);
  });

  test.for(['queued', 'running'] as const)('that is %s stays', async (status) => {
    const run = await runOfAge(await insertCompany(database.sql), status);
    expect(await retention().sweep()).toEqual({ done: 0, failed: 0 });
    expect(await runsLeft()).toEqual([run]);
  });

  test.for([
    ['was made', { created: 3_500 }],
    ['ended', { finished: 3_500 }],
    ['changed last, by the clock of the database,', { updated: 3_500 }],
  ] as const)('stays while it %s within the retention', async ([, ages]) => {
    const run = await runOfAge(await insertCompany(database.sql), 'succeeded', ages);
    expect(await retention().sweep()).toEqual({ done: 0, failed: 0 });
    expect(await runsLeft()).toEqual([run]);
  });

  test('stays as long as a lease of it is there, ended or not', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const environmentId = await insertEnvironment(sql, { companyId });
    const runId = await runOfAge(companyId);
    await insertLease(sql, { companyId, environmentId, runId, status: 'released', cleanupStatus: 'success' });
    expect(await retention().sweep()).toEqual({ done: 0, failed: 0 });
    expect(await runsLeft()).toEqual([runId]);
  });

  test('takes what it waited for with it, and leaves what was told of it', async () => {
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

describe('a round over old runs', () => {
  test('looks at four pages a sweep and goes on where the last sweep stopped', async () => {
    const companyId = await insertCompany(database.sql);
    // The oldest are kept, so that only one who looks behind them finds the others.
    for (let age = 20; age > 10; age -= 1) await runOfAge(companyId, 'running', { created: 7_200 + age });
    const removable = [];
    for (let age = 10; age > 0; age -= 1) removable.push(await runOfAge(companyId, 'failed', { created: 7_200 + age }));
    const sweeper = retention(2);
    expect(await sweeper.sweep()).toEqual({ done: 0, failed: 0 });
    expect(await sweeper.sweep()).toEqual({ done: 6, failed: 0 });
    expect(await runsLeft()).toEqual(expect.arrayContaining(removable.slice(6)));
    expect(await sweeper.sweep()).toEqual({ done: 4, failed: 0 });
  });

  test('begins anew past the last one, for runs that have come past their retention meanwhile', async () => {
    const companyId = await insertCompany(database.sql);
    const running = await runOfAge(companyId, 'running');
    const sweeper = retention();
    expect(await sweeper.sweep()).toEqual({ done: 0, failed: 0 });
    await database.sql`
      update lessor.heartbeat_runs set status = 'failed', finished_at = created_at where id = ${running}`;
    expect(await sweeper.sweep()).toEqual({ done: 1, failed: 0 });
  });

  test('finds runs made at the same instant however few fit in a page', async () => {
    const companyId = await insertCompany(database.sql);
    for (let number = 0; number < 7; number += 1) await runOfAge(companyId);
    await database.sql`update lessor.heartbeat_runs set created_at = now() - interval '3 h'`;
    expect(await retention(2).sweep()).toEqual({ done: 7, failed: 0 });
  });
});

describe('isolated', () => {
  test('a run that someone is at work on is left alone', async () => {
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

  test('same-company: a run that is leased while it is being removed keeps its row, and the sweep meets no error', async () => {
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
    // Whoever came too late found no such run.
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason as unknown);
    expect(refused).toMatchObject(refused.map(() => ({ constraint_name: 'environment_leases_run_fk' })));
    const leased = runs.filter((_, position) => outcomes[position]!.status === 'fulfilled');
    expect((await runsLeft()).toSorted()).toEqual(leased.toSorted());
  });

  test('a run that Postgres refuses to remove does not stop the rest, and is counted as failed', async () => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const referred = await runOfAge(companyId);
    for (let number = 0; number < 4; number += 1) await runOfAge(companyId);
    // As a table of a control plane in the same database may do.
    await sql`create table notes (run_id uuid references lessor.heartbeat_runs)`;
    try {
      await sql`insert into notes values (${referred})`;
      expect(await retention().sweep()).toEqual({ done: 4, failed: 1 });
      expect(await runsLeft()).toEqual([referred]);
    } finally {
      await sql`drop table notes`;
    }
    expect(await retention().sweep()).toEqual({ done: 1, failed: 0 });
  });
});
