import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { listActivity, listEnvironments, listLeases } from '../../src/db/listings.ts';
import { useDatabase } from '../support/database.ts';

const database = useDatabase();

const COMPANIES = 1_000;
const RUNS_OF_EACH = 10;
const ID = randomUUID();

/** History as it piles up, of many companies. */
beforeAll(async () => {
  await database.sql`
    with company as (insert into lessor.companies (name) select 'Company' from generate_series(1, ${COMPANIES}::int)
      returning id),
    environment as (
      insert into lessor.environments (company_id, name, driver) select id, 'Local', 'local' from company returning *),
    run as (
      insert into lessor.heartbeat_runs (company_id, status, finished_at)
      select id, 'succeeded', now() from company, generate_series(1, ${RUNS_OF_EACH}::int) returning *),
    lease as (
      insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, status, provider,
        ttl_seconds, expires_at, released_at, cleanup_status)
      select run.company_id, environment.id, run.id, 'released', 'local', 300, now(), now(), 'success'
      from run join environment using (company_id) returning *)
    insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
    select company_id, 'test', 'environment.lease_released', 'environment_lease', id, heartbeat_run_id from lease`;
  await database.sql`vacuum analyze`;
});

/** Pages are what the command line asks for when nothing is said. */
const page = { limit: 50 };

describe('a page of what the command line lists', () => {
  test.for([
    ['leases', 'environment_leases_fenced', () => listLeases(database.db, page)],
    ['leases of a company', 'environment_leases_fenced', () => listLeases(database.db, { ...page, company: ID })],
    [
      'leases on an environment',
      'environment_leases_fenced',
      () => listLeases(database.db, { ...page, environment: ID }),
    ],
    ['leases of a run', 'environment_leases_run', () => listLeases(database.db, { ...page, run: ID })],
    ['activity', 'activity_log_pkey', () => listActivity(database.db, page)],
    ['activity of a company', 'activity_log_company', () => listActivity(database.db, { ...page, company: ID })],
    ['activity of a run', 'activity_log_run', () => listActivity(database.db, { ...page, run: ID })],
    [
      'environments of a company',
      'environments_company_id_id',
      () => listEnvironments(database.db, { ...page, company: ID }),
    ],
  ] as const)('%s is found through %s', async ([, index, list]) => {
    const plan = await planOf(list());
    expect(plan).toMatch(new RegExp(`Index.* ${index}\\b`));
    expect(plan).not.toMatch(/Seq Scan on (environment_leases|activity_log)/);
  });
});

async function planOf(query: { toSQL(): { sql: string; params: unknown[] } }): Promise<string> {
  const { sql, params } = query.toSQL();
  const lines = await database.sql.unsafe(`explain ${sql}`, params as string[]);
  return lines.map((line) => String(line['QUERY PLAN'])).join('\n');
}
