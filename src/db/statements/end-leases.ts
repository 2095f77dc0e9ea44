import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { CleanupStatus, LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor, ActorInStatement } from './activity.ts';
import { hasExternalEffectsSql } from './external-effects.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/**
 * Whether a `lease` is pending or active (by the check of always-explained), in a form that makes Postgres look it up by
 * its run. By status, it would scan an index of live leases, if there were few of them when the table was analyzed.
 */
export const isLive = sql.raw('lease.cleanup_status is null');

/** A lease without external effects is cleaned up by writing its row. */
const cleanupOfEndedLease = sql`case when ${hasExternalEffectsSql('lease.provider')} then 'pending' else 'success' end`;

/** What is kept for the next run of the same scope; without external effects there is nothing to keep. */
const keptForReuse = sql`lease.status = 'active' and ${hasExternalEffectsSql('lease.provider')}
  and lease.lease_policy in ('reuse_by_environment', 'reuse_by_execution_workspace')`;

const keptOnFailure = sql`lease.status = 'active' and lease.lease_policy = 'retain_on_failure'`;

/**
 * How the end of a `run` ends its live `lease`: released; failed, with the run's reason; or retained, on failure under
 * `retain_on_failure`, and after a success under a policy of reuse, until the next run of the scope adopts it. A lease
 * that was never active is not retained: there is nothing to keep.
 */
export const endingByRun = sql`
  case
    when run.status in ('succeeded', 'cancelled') then
      case when ${keptForReuse} then 'retained' else 'released' end
    when ${keptOnFailure} then 'retained'
    else 'failed'
  end as status,
  case run.status
    when 'failed' then coalesce(nullif(run.failure_reason, ''), 'the run failed and gave no reason')
    when 'timed_out' then coalesce(nullif(run.failure_reason, ''), 'the run timed out')
  end as failure_reason,
  case
    when run.status in ('failed', 'timed_out') and ${keptOnFailure} then 'pending'
    when ${keptForReuse} then 'pending'
    else ${cleanupOfEndedLease}
  end as cleanup_status`;

/**
 * The status that an ending lease gets. While its cleanup is pending it ends in two steps: it becomes `pending_cleanup`,
 * with its final status in `ending_status`, and its end is recorded once its driver has cleaned up after it.
 */
export const nextStatus = sql.raw(
  `case when status <> 'retained' and cleanup_status = 'pending' then 'pending_cleanup' else status end`,
);

/** The columns that {@link endedLeaseValues} gives values for (always-explained). */
export const endedLeaseColumns = sql.raw(`(status, failure_reason, cleanup_status, ending_status, ending_reason,
  released_at, expires_at, last_used_at, updated_at)`);

/** The columns of a `lease` after an `ending`, which has a `next_status` beside its final `status`. */
export const endedLeaseValues = sql.raw(`select next_status, ending.failure_reason, ending.cleanup_status,
  case next_status when 'pending_cleanup' then ending.status else lease.ending_status end,
  case next_status when 'pending_cleanup' then ending.failure_reason else lease.ending_reason end,
  case when next_status not in ('retained', 'pending_cleanup') then statement_timestamp() end,
  case when ending.status = 'retained'
    then greatest(lease.expires_at, statement_timestamp() + make_interval(secs => lease.ttl_seconds))
    else lease.expires_at end,
  statement_timestamp(), statement_timestamp()`);

/**
 * Records the ends of leases in the statement that ends them (always-audited).
 * @param leases selects each `lease` with its `from_status`, and its `run`
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

/** A lease that was just ended, or retained after its run. */
export interface EndedLease {
  id: string;
  companyId: string;
  runId: string | null;
  status: LeaseStatus;
}

/**
 * Moves leases from one status to another and records each transition, in one statement (always-audited,
 * always-explained).
 *
 * @param endings selects `lease_id, from_status, status, failure_reason, cleanup_status`. A lease whose status is no longer
 *   `from_status` once its row is locked is unchanged, so that no transition is recorded twice.
 */
async function applyEndings(tx: Transaction, endings: SQL, actor: Actor): Promise<EndedLease[]> {
  return queryRows<EndedLease>(
    tx,
    sql`
    with decided as (${endings}),
    ending as (select *, ${nextStatus} as next_status from decided),
    lease as (
      update lessor.environment_leases lease set ${endedLeaseColumns} = (${endedLeaseValues})
      from ending
      where lease.id = ending.lease_id and lease.status = ending.from_status
      returning lease.*, ending.from_status
    ), event as (${recordEnded(actor, sql`lease left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id`)}
    )
    select id, company_id as "companyId", heartbeat_run_id as "runId", status from lease order by fencing_token`,
  );
}

/** The endings of those of the leases that are live though their run has ended. */
function endingOfEndedRuns(leases: SQL): SQL {
  return sql`
    select lease.id as lease_id, lease.status as from_status, ${endingByRun}
    from lessor.environment_leases lease
    join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
    where ${isLive} and run.status in ('succeeded', 'failed', 'cancelled', 'timed_out')
      and ${leases}`;
}

/** Ends the live leases of those of the runs that have ended (no-leak). */
export async function endLeasesOfRuns(tx: Transaction, runIds: readonly string[], actor: Actor): Promise<EndedLease[]> {
  return applyEndings(tx, endingOfEndedRuns(sql`lease.heartbeat_run_id = any(${uuidArray(runIds)})`), actor);
}

/**
 * Ends those of the leases that are live though their run has ended (no-leak). Locked rows are skipped: the sweep never
 * waits, so that it can neither block nor deadlock with an operation, and whoever holds the lock is ending the lease.
 */
export async function endOrphanedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  actor: Actor,
): Promise<EndedLease[]> {
  const orphaned = sql`lease.id = any(${uuidArray(leaseIds)}) for update of lease skip locked`;
  return applyEndings(tx, endingOfEndedRuns(orphaned), actor);
}

/** An instant in a reason: ISO 8601 in whole seconds, UTC. */
const isoSeconds = (instant: string) => sql.raw(`to_char(${instant} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`);

const isExpired = sql.raw(
  `lease.status in ('pending', 'active', 'retained') and lease.expires_at <= statement_timestamp()`,
);

/** What to do about a locked row: the sweep skips it, an operation waits for it. */
export type RowLocking = 'skip locked' | 'wait';

/** Ends those of the leases that are past their `expires_at` (no-leak). */
export async function expireLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  locking: RowLocking,
  actor: Actor,
): Promise<EndedLease[]> {
  return applyEndings(
    tx,
    sql`
      select lease.id as lease_id, lease.status as from_status, 'expired' as status,
        concat_ws('; ', lease.failure_reason,
          case lease.status when 'retained' then 'kept after its run until ' else 'not renewed before ' end
            || ${isoSeconds('lease.expires_at')}) as failure_reason,
        ${cleanupOfEndedLease} as cleanup_status
      from lessor.environment_leases lease
      where lease.id = any(${uuidArray(leaseIds)}) and ${isExpired}
      for update of lease ${sql.raw(locking === 'wait' ? '' : locking)}`,
    actor,
  );
}

/**
 * Fails those of the leases whose acquisition was never completed: they are pending, and were not touched for
 * `untouchedSeconds` (no-leak). A lease whose run has ended, or that has expired, is ended for that reason instead. Locked
 * rows are skipped: their acquisition may be about to complete.
 */
export async function failAbandonedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  untouchedSeconds: number,
  actor: Actor,
): Promise<EndedLease[]> {
  return applyEndings(
    tx,
    sql`
      select lease.id as lease_id, lease.status as from_status, 'failed' as status,
        'acquisition never completed: not touched since ' || ${isoSeconds('lease.last_used_at')} as failure_reason,
        ${cleanupOfEndedLease} as cleanup_status
      from lessor.environment_leases lease
      left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
      where lease.id = any(${uuidArray(leaseIds)}) and lease.status = 'pending'
        and lease.last_used_at <= statement_timestamp() - make_interval(secs => ${untouchedSeconds})
        and lease.expires_at > statement_timestamp()
        and (run.id is null or run.status in ('queued', 'running'))
      for update of lease skip locked`,
    actor,
  );
}

/** How a lease is to be ended, as the caller has decided. */
export interface LeaseEnding {
  leaseId: string;
  fromStatus: LeaseStatus;
  status: LeaseStatus;
  failureReason: string | null;
  cleanupStatus: CleanupStatus;
}

/** Ends leases as the caller has decided. */
export async function endLeases(tx: Transaction, endings: readonly LeaseEnding[], actor: Actor): Promise<EndedLease[]> {
  return applyEndings(
    tx,
    sql`
      select "leaseId" as lease_id, "fromStatus" as from_status, status, "failureReason" as failure_reason,
        "cleanupStatus" as cleanup_status
      from jsonb_to_recordset(${jsonRows(endings)}) as ending (
        "leaseId" uuid, "fromStatus" text, status text, "failureReason" text, "cleanupStatus" text)`,
    actor,
  );
}
