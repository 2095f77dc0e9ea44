import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import { beforeAll, expect, test } from 'vitest';
import { queryRows } from '../../src/db/connection.ts';
import type { Db, Transaction } from '../../src/db/connection.ts';
import {
  findAbandonedLeases,
  findExpiredLeases,
  findOrphanedLeases,
  findUncleanedLeases,
} from '../../src/db/statements/find-leases-to-sweep.ts';
import { findOldRuns, removeOldRuns } from '../../src/db/statements/runs.ts';
import { useDatabase } from '../support/database.ts';

const database = useDatabase();

const ID = '00000000-0000-4000-8000-000000000001';
const INSTANT = '2026-01-01T00:00:00Z';
/** Fewer than there are live leases, as the page of a sweep is in an installation of some size. */
const LIMIT = 50;

type Query = (db: Db, page: 'first' | 'next') => Promise<unknown>;
const after = <Place>(page: 'first' | 'next', place: Place): [] | [Place] => (page === 'first' ? [] : [place]);

const QUERIES: [what: string, index: string, query: Query][] = [
  [
    'live leases of ended runs',
    'environment_leases_one_lease',
    (db, page) => findOrphanedLeases(db, LIMIT, ...after(page, { leaseId: ID, runId: ID, environmentId: ID })),
  ],
  [
    'expired leases',
    'environment_leases_expiring',
    (db, page) => findExpiredLeases(db, LIMIT, ...after(page, { leaseId: ID, expiresAt: INSTANT })),
  ],
  [
    'leases whose acquisition nobody completes',
    'environment_leases_pending',
    (db, page) => findAbandonedLeases(db, 120, LIMIT, ...after(page, { leaseId: ID, lastUsedAt: INSTANT })),
  ],
  [
    'leases that wait for their cleanup',
    'environment_leases_pending_cleanup',
    (db, page) =>
      findUncleanedLeases(db, 30, LIMIT, ...after(page, { leaseId: ID, companyId: ID, updatedAt: INSTANT })),
  ],
  [
    'runs from before the retention',
    'heartbeat_runs_retention',
    (db, page) => findOldRuns(db, 60, LIMIT, ...after(page, { runId: ID, createdAt: INSTANT, removable: false })),
  ],
];

/** History as it piles up: ended leases of ended runs, most of them long past, and a few live ones. */
beforeAll(async () => {
  await database.sql`
    with company as (insert into lessor.companies default values returning id),
    environment as (
      insert into lessor.environments (company_id, name, driver) select id, 'Local', 'local' from company returning *),
    run as (
      insert into lessor.heartbeat_runs (company_id, status, created_at, finished_at)
      select id, 'succeeded', now() - number * interval '1 min', now()
      from company, generate_series(1, 20000) as number
      returning *),
    numbered as (select run.*, (row_number() over (order by created_at)) % 200 as number from run)
    insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, status, ttl_seconds,
      last_used_at, updated_at, expires_at, released_at, cleanup_status)
    select run.company_id, environment.id, run.id, kind.status, 300, run.created_at, run.created_at,
      run.created_at + interval '1 day', case kind.status when 'released' then now() end,
      case when kind.status in ('released', 'pending_cleanup') then 'pending' end
    from numbered run, environment, lateral (select
      case when number between 1 and 4 then 'active' when number = 0 then 'pending'
        when number between 5 and 20 then 'pending_cleanup' else 'released' end as status) kind`;
  await database.sql`analyze lessor.heartbeat_runs, lessor.environment_leases`;
});

test.for(
  QUERIES.flatMap(([what, index, query]) => [
    { what, index, query, page: 'first' as const },
    { what, index, query, page: 'next' as const },
  ]),
)('the $page page of $what is found through $index', async ({ index, query, page }) => {
  const plan = await planOf((db) => query(db, page));
  expect(plan).toMatch(new RegExp(`Index.* ${index}\\b`));
});

test.for(['first', 'next'] as const)('the %s page of old runs reads no lease but theirs', async (page) => {
  const plan = await planOf((db) =>
    findOldRuns(db, 60, LIMIT, ...after(page, { runId: ID, createdAt: INSTANT, removable: false })),
  );
  expect(plan).toMatch(/Index.* environment_leases_run\b.*\n *Index Cond: \(heartbeat_run_id = run\.id\)/);
});

test('live leases are looked up among the runs one by one, not all runs among them', async () => {
  const plan = await planOf((db) => findOrphanedLeases(db, LIMIT));
  expect(plan).toMatch(/Index.* heartbeat_runs_pkey\b.*\n *Index Cond: \(id = lease\.heartbeat_run_id\)/);
});

test('runs past their retention are removed by their ids', async () => {
  const plan = await planOf((db) => removeOldRuns(db as Transaction, [ID], 60));
  expect(plan).toMatch(/LockRows[^]*Index Cond: \(id = ANY[^]*Delete on heartbeat_runs[^]*Index Cond: \(id = ANY/);
  expect(plan).toMatch(/Index.* environment_leases_run\b.*\n *Index Cond: \(heartbeat_run_id = run\.id\)/);
});

/** How Postgres would run a statement that must not scan a table from end to end. */
async function planOf(query: (db: Db) => Promise<unknown>): Promise<string> {
  const lines: string[] = [];
  await database.db.transaction(async (tx) => {
    await tx.execute(sql`set local enable_seqscan = off`);
    const explaining = {
      async execute(statement: SQL) {
        const plan = await queryRows<Record<'QUERY PLAN', string>>(tx, sql`explain ${statement}`);
        lines.push(...plan.map((line) => line['QUERY PLAN']));
        return [];
      },
    };
    await query(explaining as unknown as Db);
  });
  return lines.join('\n');
}
