import type { Sql } from 'postgres';
import type { BenchContext } from '../context.ts';
import { measureRuns } from '../measure-contender.ts';
import { median, ratios } from '../../testing/statistics.ts';
import { onDatabase } from '../../testing/stores/databases.ts';
import { planCompanies, planRuns } from '../workload.ts';

export interface GrowthResults {
  leases: number;
  activityRows: number;
  /** Jobs per second of Lessor on Redis, round by round. */
  empty: number[];
  grown: number[];
  /** Median of the quotients, round by round. */
  ratio: number;
}

const LEASES_PER_STATEMENT = 100_000;

/** Measures Lessor on an empty database, and on one that holds the leases of years. */
export async function measureGrowth(context: BenchContext): Promise<GrowthResults> {
  const { stores, scale } = context;
  const { leases, pairs } = scale.growth;
  const companies = planCompanies(scale.companies);
  const grownUrl = await stores.freshDatabase(companies);
  await growDatabase(grownUrl, leases, (written) =>
    context.describe(`growth: ${written.toLocaleString('en')} of ${leases.toLocaleString('en')} ended leases`),
  );
  const measure = async (databaseUrl: string): Promise<number> => {
    const runs = planRuns(pairs, companies);
    const { rate } = await measureRuns(context, 'lessor', databaseUrl, runs, { exclusive: databaseUrl !== grownUrl });
    return rate;
  };
  const empty: number[] = [];
  const grown: number[] = [];
  for (let round = 1; round <= scale.rounds; round += 1) {
    context.describe(`growth ${round}/${scale.rounds}: on an empty database`);
    empty.push(await measure(await stores.freshDatabase(companies)));
    context.describe(`growth ${round}/${scale.rounds}: on ${leases.toLocaleString('en')} ended leases`);
    grown.push(await measure(grownUrl));
  }
  return { leases, activityRows: 2 * leases, empty, grown, ratio: median(ratios(grown, empty)) };
}

/** Writes leases that ended long ago, with their runs and two events each, spread over the companies. */
async function growDatabase(databaseUrl: string, leases: number, onWritten: (count: number) => void): Promise<void> {
  await onDatabase(databaseUrl, async (sql) => {
    await createLocalEnvironments(sql);
    // All references are valid by construction: checking foreign keys a million times only takes time.
    await sql`set session_replication_role = replica`;
    for (let written = 0; written < leases; written += LEASES_PER_STATEMENT) {
      onWritten(written);
      await insertEndedLeases(sql, written, Math.min(LEASES_PER_STATEMENT, leases - written));
    }
    await sql`vacuum analyze`;
  });
}

async function createLocalEnvironments(sql: Sql): Promise<void> {
  await sql`
    with created as (
      insert into lessor.environments (company_id, name, driver)
      select id, 'Local', 'local' from lessor.companies returning *
    )
    insert into lessor.activity_log (company_id, actor_type, actor_id, action, entity_type, entity_id, details)
    select company_id, 'system', 'bench', 'environment.created', 'environment', id,
      jsonb_build_object('name', name, 'driver', driver)
    from created`;
}

/** Inserts one lease for every ten seconds, the oldest first. */
async function insertEndedLeases(sql: Sql, from: number, count: number): Promise<void> {
  await sql`
    with places as (
      select id as environment_id, company_id, row_number() over (order by id) - 1 as position,
        count(*) over () as count
      from lessor.environments
    ), run as (
      insert into lessor.heartbeat_runs
        (id, company_id, status, context_snapshot, started_at, finished_at, created_at, updated_at)
      select gen_random_uuid(), company_id, 'succeeded', jsonb_build_object('paperclipEnvironment', jsonb_build_object(
          'id', environment_id, 'name', 'Local', 'driver', 'local', 'leaseId', gen_random_uuid())),
        at, at + interval '5 seconds', at, at + interval '5 seconds'
      from generate_series(${from}::int, ${from + count - 1}::int) as number
      join places on position = number % places.count
      cross join lateral (select now() - interval '3 years' + number * interval '10 seconds' as at) instant
      returning *
    ), lease as (
      insert into lessor.environment_leases
        (id, company_id, environment_id, heartbeat_run_id, status, lease_policy, provider, ttl_seconds, acquired_at,
         last_used_at, expires_at, released_at, cleanup_status, metadata, created_at, updated_at)
      select (run.context_snapshot->'paperclipEnvironment'->>'leaseId')::uuid, run.company_id, places.environment_id,
        run.id, 'released', 'ephemeral', 'local', 300, started_at, finished_at, started_at + interval '5 minutes',
        finished_at, 'success', jsonb_build_object('environmentSelection', jsonb_build_object('source', 'company')),
        started_at, finished_at
      from run join places on places.company_id = run.company_id
      order by run.started_at
      returning *
    )
    insert into lessor.activity_log
      (company_id, actor_type, actor_id, action, entity_type, entity_id, run_id, details, created_at)
    select company_id, 'system', 'bench', action, 'environment_lease', id, heartbeat_run_id,
      jsonb_build_object('environmentId', environment_id, 'fencingToken', fencing_token), created_at
    from lease cross join (values ('environment.lease_acquired'), ('environment.lease_released')) as event (action)
    order by fencing_token`;
}
