import type { Sql, TransactionSql } from 'postgres';
import { LEASE_EVENT_COUNTS } from './invariants.ts';

/** Leases and environments of a quiescent database, counted by what is wrong with them. */
export interface Tally {
  leases: number;
  /** Leases that have not ended (no-leak). */
  leaked: number;
  expired: number;
  /** Runs whose lease was rejected. */
  rejected: number;
  /** Runs that were granted their lease later than they first asked for it. */
  waited: number;
  /** Transitions with more than one event (always-audited). A lease that was revived has expired before. */
  duplicated: number;
  /** Transitions without an event (always-audited). */
  unrecorded: number;
  /** Ended leases without a failure reason or a cleanup status (always-explained). */
  unexplained: number;
  /** Leases whose status does not follow from their run's. */
  mismatched: number;
}

/** Counts over all companies, in a database that nothing else uses. */
export async function tally(sql: Sql | TransactionSql): Promise<Tally> {
  const [row] = await sql<[Tally]>`
    with environments as (select * from lessor.environments),
    environment_leases as (select * from lessor.environment_leases),
    activity_log as (select * from lessor.activity_log),
    recorded as (
      select counts.*, lease.cleanup_status, lease.failure_reason, lease.released_at, lease.expires_at,
        run.status as run_status, run.created_at as asked_at
      from (${sql.unsafe(LEASE_EVENT_COUNTS)}) counts
      join environment_leases lease using (id)
      left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
    ), recorded_environments as (
      select environment.id, count(event.id) as created
      from lessor.environments environment
      left join lessor.activity_log event on event.entity_id = environment.id and event.action = 'environment.created'
      group by environment.id
    ), rejected as (
      select run_id, count(*) as rejections from lessor.activity_log
      where action = 'environment.lease_denied' group by run_id
    )
    select
      count(*)::int as leases,
      count(*) filter (where status in ('pending', 'active', 'retained', 'pending_cleanup'))::int as leaked,
      count(*) filter (where status = 'expired')::int as expired,
      (select count(*)::int from rejected) as rejected,
      -- Both are the start of a transaction: the same one, unless the run had to wait.
      count(*) filter (where granted_at > asked_at)::int as waited,
      count(*) filter (where acquired > 1 or retained > 1 or ended - revived > 1)::int
        + (select count(*)::int from recorded_environments where created > 1)
        + (select count(*)::int from rejected where rejections > 1) as duplicated,
      count(*) filter (where acquired = 0 or (status in ('released', 'expired', 'failed') and ended_so = 0))::int
        + (select count(*)::int from recorded_environments where created = 0) as unrecorded,
      count(*) filter (where (status in ('released', 'expired', 'failed') and cleanup_status is null)
        or (status in ('expired', 'failed') and coalesce(failure_reason, '') = ''))::int as unexplained,
      count(*) filter (where (status = 'released' and run_status not in ('succeeded', 'cancelled'))
        or (status = 'failed' and run_status not in ('failed', 'timed_out'))
        or (status = 'expired' and released_at < expires_at))::int as mismatched
    from recorded`;
  return row;
}
