import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import { useDatabase } from '../support/database.ts';
import { runFinished, runHeartbeat, runStarted } from '../support/factories.ts';
import { finish, operationsOn, renew, start } from '../support/operations.ts';

const database = useDatabase();

const HISTORY = 20_000;
const COMPANIES = 5_000;
const RUNS = 200;

let companyId: string;

/** History as it piles up. Nothing is live when Postgres counts, which makes the indexes of what is live look tempting. */
beforeAll(async () => {
  const { sql } = database;
  const [company] = await sql`insert into lessor.companies default values returning id`;
  companyId = company!['id'];
  await sql.begin(async (tx) => {
    // What this session has read is counted before the test looks, not within a second.
    await tx`select pg_stat_force_next_flush()`;
    await tx`
    with others as (
      insert into lessor.companies (name) select 'Company' from generate_series(1, ${COMPANIES}::int) returning id),
    locals as (
      insert into lessor.environments (company_id, name, driver) select id, 'Local', 'local' from others),
    environment as (
      insert into lessor.environments (company_id, name, driver) values (${companyId}, 'Local', 'local') returning *),
    run as (
      insert into lessor.heartbeat_runs (company_id, status, created_at, finished_at)
      select ${companyId}, 'succeeded', now() - number * interval '1 min', now()
      from generate_series(1, ${HISTORY}::int) as number returning *),
    lease as (
      insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, execution_workspace_id,
        status, provider, ttl_seconds, expires_at, released_at, cleanup_status)
      select run.company_id, environment.id, run.id, gen_random_uuid(), 'released', 'local', 300, now(), now(),
        'success'
      from run, environment returning *)
    insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
    select company_id, 'test', 'environment.lease_released', 'environment_lease', id, heartbeat_run_id from lease`;
  });
  await sql`vacuum analyze`;
});

/**
 * Rows that an operation may look at in one index, on average. The usual ones look at their own, and at what the checks of
 * their keys need. Where a workspace is involved, Postgres may take what is live from the index of what expires next.
 */
test.for([
  ['usual runs', () => ({}), 10],
  ['first runs of companies', () => ({ companyId: randomUUID() }), 20],
  ['runs in workspaces', () => ({ executionWorkspaceId: randomUUID() }), RUNS],
] as const)(
  'the operations of %s look up what they need by index, however much there is',
  async ([, wanted, rowsPerRun]) => {
    const before = await readsOf();
    const pool = openWorkerPool(database.url, { applicationName: 'test operations' });
    const { apply } = operationsOn({ pool });
    const runs = Array.from({ length: RUNS }, () => runStarted({ companyId, ...wanted() }));
    for (const operation of [start, renew, finish]) {
      for (let first = 0; first < RUNS; first += 20) {
        const batch = runs.slice(first, first + 20).map((run) => {
          if (operation === start) return start(run);
          return operation === renew ? renew(runHeartbeat(run)) : finish(runFinished(run));
        });
        const outcomes = await apply(batch);
        expect(outcomes.every(({ kind }) => kind === 'done')).toBe(true);
      }
    }
    // What a session has read is counted once it is over.
    await pool.close();
    await expect.poll(async () => (await readsOf()).written - before.written).toBeGreaterThanOrEqual(RUNS);
    const after = await readsOf();
    expect(after.wholeTables - before.wholeTables, 'tables read from end to end').toBe(0);
    for (const [index, rows] of Object.entries(after.byIndex)) {
      expect(rows - (before.byIndex[index] ?? 0), `rows read by ${index}`).toBeLessThan(rowsPerRun * RUNS);
    }
  },
);

const OF_EACH_RUN = new Set(['heartbeat_runs', 'environment_leases', 'activity_log']);

/** Tables that grow; the others hold what is waited for or is on its way. */
const HOLDS_MANY = new Set(['companies', 'environments', ...OF_EACH_RUN]);

async function readsOf() {
  const { sql } = database;
  const tables = await sql<{ name: string; scans: number; rows: number }[]>`
    select relname as name, seq_scan::int as scans, n_tup_ins::int as rows from pg_stat_user_tables
    where schemaname = 'lessor'`;
  const indexes = await sql<{ name: string; rows: number }[]>`
    select indexrelname as name, idx_tup_read::int as rows from pg_stat_user_indexes where schemaname = 'lessor'`;
  return {
    wholeTables: tables.filter(({ name }) => HOLDS_MANY.has(name)).reduce((sum, { scans }) => sum + scans, 0),
    written: Math.min(...tables.filter(({ name }) => OF_EACH_RUN.has(name)).map(({ rows }) => rows)),
    byIndex: Object.fromEntries(indexes.map(({ name, rows }) => [name, rows])),
  };
}
