import type { Sql, TransactionSql } from 'postgres';

/** An invariant of README.md, “What holds” that does not hold, and where. */
export interface Violation {
  invariant: string;
  detail: string;
}

/** Options of {@link audit}. */
export interface AuditOptions {
  /** How long the sweep may take to end an expired or orphaned lease; default 0, for a quiescent database. */
  graceSeconds?: number;
  /** Only the rows of these companies, in a shared database; default all. */
  companyIds?: readonly string[];
}

const LIVE = `('pending', 'active')`;
const ENDED = `('released', 'expired', 'failed')`;
const TERMINAL = `('succeeded', 'failed', 'cancelled', 'timed_out')`;
const ENDING_ACTIONS = `('environment.lease_released', 'environment.lease_expired', 'environment.lease_failed')`;

/**
 * How many events each transition of each lease has (always-audited). A renewal can undo an expiry, and records an event
 * each time it does.
 */
export const LEASE_EVENT_COUNTS = `
  select lease.id, lease.status, environment.driver,
    -- its cleanup failed permanently, which is recorded in place of its end
    lease.cleanup_status = 'failed'
      and count(*) filter (where event.action = 'environment.lease_release_failed') > 0 as cleanup_failed,
    count(*) filter (where event.action = 'environment.lease_acquired') as acquired,
    min(event.created_at) filter (where event.action = 'environment.lease_acquired') as granted_at,
    count(*) filter (where event.action = 'environment.lease_retained') as retained,
    count(*) filter (where event.action in ${ENDING_ACTIONS}) as ended,
    count(*) filter (where event.action = 'environment.lease_renewed'
      and event.details->>'fromStatus' = 'expired') as revived,
    count(*) filter (where event.action = 'environment.lease_expired') as expired,
    count(*) filter (where event.action = 'environment.lease_' || lease.status) as ended_so
  from environment_leases lease
  left join environments environment on environment.id = lease.environment_id
  left join activity_log event on event.entity_type = 'environment_lease' and event.entity_id = lease.id
  group by lease.id, lease.status, lease.cleanup_status, environment.driver`;

/** Each query selects the violations of its invariant. `$1` is the grace in seconds. */
const QUERIES = [
  {
    invariant: 'one-local',
    query: `select format('company %s has %s local environments', company_id, count(*)) as detail
      from environments where driver = 'local' group by company_id having count(*) > 1`,
  },
  {
    invariant: 'one-lease',
    query: `select format('run %s holds %s live leases on environment %s', heartbeat_run_id, count(*), environment_id)
        as detail
      from environment_leases where status in ${LIVE} and heartbeat_run_id is not null
      group by heartbeat_run_id, environment_id having count(*) > 1`,
  },
  {
    invariant: 'same-company',
    query: `select format('lease %s of company %s is on an environment of %s for a run of %s', lease.id,
        lease.company_id, environment.company_id, run.company_id) as detail
      from environment_leases lease
      left join environments environment on environment.id = lease.environment_id
      left join heartbeat_runs run on run.id = lease.heartbeat_run_id
      where environment.company_id is distinct from lease.company_id
        or (lease.heartbeat_run_id is not null and run.company_id is distinct from lease.company_id)`,
  },
  {
    invariant: 'no-leak',
    query: `select format('lease %s is %s though its run %s', lease.id, lease.status, run.status) as detail
      from environment_leases lease join heartbeat_runs run on run.id = lease.heartbeat_run_id
      where lease.status in ${LIVE} and run.status in ${TERMINAL}
        and run.updated_at <= now() - make_interval(secs => $1::float8)`,
  },
  {
    invariant: 'no-leak',
    query: `select format('lease %s is %s though it expired at %s', id, status, expires_at) as detail
      from environment_leases
      where (status in ${LIVE} or status = 'retained')
        and expires_at <= now() - make_interval(secs => $1::float8)`,
  },
  {
    invariant: 'always-bounded',
    query: `select format('lease %s is %s without an end', id, status) as detail
      from environment_leases where status in ${LIVE} and expires_at is null`,
  },
  {
    invariant: 'always-audited',
    query: `with recorded as (${LEASE_EVENT_COUNTS})
      select format('lease %s is %s, with events: acquired %s, retained %s, ended %s, expired %s, revived %s',
        id, status, acquired, retained, ended, expired, revived) as detail
      from recorded
      where acquired > 1 or retained > 1 or revived > expired or ended - revived not in (0, 1)
        -- a driver with effects outside Postgres can fail before its lease was ever active
        or (acquired = 0 and status <> 'pending' and (driver = 'local' or status in ('active', 'retained')))
        or (retained = 0 and status = 'retained')
        or (ended - revived = 0 and status in ${ENDED} and cleanup_failed is not true)
        or (ended - revived = 1 and (cleanup_failed or status not in ${ENDED}))
        or (status in ${ENDED} and cleanup_failed is not true
          and ended_so <> case status when 'expired' then revived + 1 else 1 end)
        or (status <> 'expired' and status <> 'pending_cleanup' and expired <> revived)`,
  },
  {
    invariant: 'always-audited',
    query: `select format('event %s (%s) of company %s and run %s is about lease %s, of company %s and run %s',
        event.id, event.action, event.company_id, event.run_id, event.entity_id, lease.company_id,
        lease.heartbeat_run_id) as detail
      from activity_log event left join environment_leases lease on lease.id = event.entity_id
      where event.entity_type = 'environment_lease'
        and (lease.company_id is distinct from event.company_id
          or lease.heartbeat_run_id is distinct from event.run_id)`,
  },
  {
    invariant: 'always-explained',
    query: `select format('lease %s is %s with cleanup status %s and reason %s', id, status,
        coalesce(cleanup_status, 'none'), coalesce(quote_literal(failure_reason), 'none')) as detail
      from environment_leases
      where (status in ${ENDED} and (cleanup_status is null or released_at is null))
        or (status in ('failed', 'expired') and coalesce(failure_reason, '') = '')`,
  },
  {
    invariant: 'single-flight',
    query: `select format('execution workspace %s on environment %s has %s live ephemeral leases',
        execution_workspace_id, environment_id, count(*)) as detail
      from environment_leases
      where status in ${LIVE} and lease_policy = 'ephemeral' and execution_workspace_id is not null
      group by environment_id, execution_workspace_id having count(*) > 1`,
  },
  {
    invariant: 'fenced',
    query: `select format('environment %s gave token %s at %s, and before that %s at %s',
        environment_id, fencing_token, acquired_at, previous_token, previous_at) as detail
      from (
        select environment_id, fencing_token, acquired_at,
          lag(fencing_token) over by_token as previous_token, lag(acquired_at) over by_token as previous_at
        from environment_leases
        window by_token as (partition by environment_id order by fencing_token)
      ) lease
      where fencing_token = previous_token or acquired_at < previous_at`,
  },
] as const;

/** Limits the tables of a query to the rows of the companies in `$2`; null is all. */
const scoped = (query: string) => {
  const tables = ['environments', 'heartbeat_runs', 'environment_leases', 'activity_log'].map(
    (table) =>
      `${table} as (select * from lessor.${table} where $2::text is null or company_id::text = any($2::text[]))`,
  );
  return `with ${tables.join(', ')} select detail from (${query}) violation where $1::float8 is not null`;
};

/** Checks the invariants in the database. Returns the violations: none, when all is well. */
export async function audit(
  sql: Sql | TransactionSql,
  { graceSeconds = 0, companyIds }: AuditOptions = {},
): Promise<Violation[]> {
  const violations: Violation[] = [];
  for (const { invariant, query } of QUERIES) {
    const companies = companyIds === undefined ? null : `{${companyIds.join()}}`;
    const rows = await sql.unsafe<{ detail: string }[]>(scoped(query), [graceSeconds, companies]);
    violations.push(...rows.map(({ detail }) => ({ invariant, detail })));
  }
  return violations;
}
