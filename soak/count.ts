import type { Sql, TransactionSql } from 'postgres';
import { TOLD_LEASES } from '../demo/audit.ts';

/** What the tables hold when everything is at rest. */
export interface Counts {
  leases: number;
  /** Leases that have not ended (no-leak). */
  leaked: number;
  expired: number;
  /** Runs that were told to be denied a lease. */
  refused: number;
  /** Runs that were granted their lease later than when they first asked for it. */
  waited: number;
  /** Transitions that were told more than once (always-audited). A lease that was revived has expired before. */
  doubled: number;
  /** Transitions that were not told (always-audited). */
  suppressed: number;
  /** Ended leases that do not say why, or what became of their cleanup (always-explained). */
  unexplained: number;
  /** Leases that ended otherwise than their run. */
  misended: number;
}

/** Counts in SQL, over all companies: the database is the soak's alone. */
export async function count(sql: Sql | TransactionSql): Promise<Counts> {
  const [row] = await sql<[Counts]>`
    with environments as (select * from lessor.environments),
    environment_leases as (select * from lessor.environment_leases),
    activity_log as (select * from lessor.activity_log),
    told as (
      select told.*, lease.cleanup_status, lease.failure_reason, lease.released_at, lease.expires_at,
        run.status as run_status, run.created_at as asked_at
      from (${sql.unsafe(TOLD_LEASES)}) told
      join environment_leases lease using (id)
      left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
    ), told_environments as (
      select environment.id, count(event.id) as created
      from lessor.environments environment
      left join lessor.activity_log event on event.entity_id = environment.id and event.action = 'environment.created'
      group by environment.id
    ), denied as (
      select run_id, count(*) as rejections from lessor.activity_log
      where action = 'environment.lease_denied' group by run_id
    )
    select
      count(*)::int as leases,
      count(*) filter (where status in ('pending', 'active', 'retained', 'pending_cleanup'))::int as leaked,
      count(*) filter (where status = 'expired')::int as expired,
      (select count(*)::int from denied) as refused,
      -- Both are the beginning of a transaction: the same one, unless the run had to ask again.
      count(*) filter (where granted_at > asked_at)::int as waited,
      count(*) filter (where acquired > 1 or retained > 1 or ended - revived > 1)::int
        + (select count(*)::int from told_environments where created > 1)
        + (select count(*)::int from denied where rejections > 1) as doubled,
      count(*) filter (where acquired = 0 or (status in ('released', 'expired', 'failed') and ended_so = 0))::int
        + (select count(*)::int from told_environments where created = 0) as suppressed,
      count(*) filter (where (status in ('released', 'expired', 'failed') and cleanup_status is null)
        or (status in ('expired', 'failed') and coalesce(failure_reason, '') = ''))::int as unexplained,
      count(*) filter (where (status = 'released' and run_status not in ('succeeded', 'cancelled'))
        or (status = 'failed' and run_status not in ('failed', 'timed_out'))
        or (status = 'expired' and released_at < expires_at))::int as misended
    from told`;
  return row;
}
