import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { ActorInStatement } from './activity.ts';

/**
 * Whether a `lease` is pending or active (always-explained), said so that it is looked up by its run. Said by its status,
 * Postgres would rather read one of the indexes of live leases from end to end, if there were few when it last looked.
 */
export const isLive = sql.raw('lease.cleanup_status is null');

/** Cleanup of a lease whose driver has no effects outside Postgres is done once its row is written. */
export const cleanupOfEndedLease = sql.raw(`case lease.provider when 'local' then 'success' else 'pending' end`);

/** What is kept on an environment for the next run of its scope; on `Local` there is nothing to keep. */
const keptForReuse = `lease.status = 'active' and lease.provider <> 'local'
  and lease.lease_policy in ('reuse_by_environment', 'reuse_by_execution_workspace')`;

const keptOnFailure = `lease.status = 'active' and lease.lease_policy = 'retain_on_failure'`;

/**
 * How the end of a `run` ends its live `lease` (DESIGN: released, failed with the run's reason, or retained on failure).
 * What a run that did not fail leaves for reuse is retained until the next run of its scope takes it over. One that was
 * never active is not retained: there is nothing to look at.
 */
export const endingByRun = sql`
  case
    when run.status in ('succeeded', 'cancelled') then
      case when ${sql.raw(keptForReuse)} then 'retained' else 'released' end
    when ${sql.raw(keptOnFailure)} then 'retained'
    else 'failed'
  end as status,
  case run.status
    when 'failed' then coalesce(nullif(run.failure_reason, ''), 'the run failed and gave no reason')
    when 'timed_out' then coalesce(nullif(run.failure_reason, ''), 'the run timed out')
  end as failure_reason,
  case
    when run.status in ('failed', 'timed_out') and ${sql.raw(keptOnFailure)} then 'pending'
    when ${sql.raw(keptForReuse)} then 'pending'
    else ${cleanupOfEndedLease}
  end as cleanup_status`;

/**
 * What a lease becomes that is to end so. While its cleanup is pending it ends in two steps: it becomes
 * `pending_cleanup`, which keeps how it is to end, and its end is told when its driver has cleaned up after it.
 */
export const nextStatus = sql.raw(
  `case when status <> 'retained' and cleanup_status = 'pending' then 'pending_cleanup' else status end`,
);

/** The columns that {@link endedLeaseValues} gives values for (always-explained). */
export const endedLeaseColumns = sql.raw(`(status, failure_reason, cleanup_status, ending_status, ending_reason,
  released_at, expires_at, last_used_at, updated_at)`);

/** A `lease` after an `ending`, which has its `next_status` beside what it is to end as. */
export const endedLeaseValues = sql.raw(`select next_status, ending.failure_reason, ending.cleanup_status,
  case next_status when 'pending_cleanup' then ending.status else lease.ending_status end,
  case next_status when 'pending_cleanup' then ending.failure_reason else lease.ending_reason end,
  case when next_status not in ('retained', 'pending_cleanup') then statement_timestamp() end,
  case when ending.status = 'retained'
    then greatest(lease.expires_at, statement_timestamp() + make_interval(secs => lease.ttl_seconds))
    else lease.expires_at end,
  statement_timestamp(), statement_timestamp()`);

/**
 * Tells the ends of leases in the statement that ends them (always-audited).
 * @param leases selects each `lease` with its `from_status`, beside its `run`
 */
export const recordEnded = (actor: ActorInStatement, leases: SQL): SQL => sql`
      insert into lessor.activity_log
        (company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details)
      select lease.company_id, ${actor.type}, ${actor.id},
        case when from_status = 'pending_cleanup' and cleanup_status = 'failed' then 'environment.lease_release_failed'
          else 'environment.lease_' || lease.status end,
        'environment_lease', lease.id, run.agent_id, lease.heartbeat_run_id, jsonb_strip_nulls(jsonb_build_object(
          'environmentId', lease.environment_id, 'executionWorkspaceId', lease.execution_workspace_id,
          'runStatus', run.status, 'failureReason', lease.failure_reason, 'cleanupStatus', lease.cleanup_status,
          'fencingToken', lease.fencing_token))
      from ${leases}
      where lease.status <> 'pending_cleanup'
      order by lease.fencing_token`;
