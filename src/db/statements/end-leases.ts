import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { CleanupStatus, LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor } from './activity.ts';
import {
  endedLeaseValues,
  endedLeaseColumns,
  cleanupOfEndedLease,
  endingByRun,
  isLive,
  nextStatus,
  recordEnded,
} from './ended-leases.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A lease that was just ended, or retained after its run. */
export interface EndedLease {
  id: string;
  companyId: string;
  runId: string | null;
  status: LeaseStatus;
}

/**
 * Takes leases from one status to another and tells each transition, in one statement (always-audited,
 * always-explained). `ending` selects `lease_id, from_status, status, failure_reason, cleanup_status`; a lease whose
 * status is no longer `from_status` once its row is locked is left alone, so no transition is told twice.
 *
 * A lease that is to end while its cleanup is pending ends in two steps: it becomes `pending_cleanup`, which keeps how
 * it is to end, and its end is told when its driver has cleaned up after it.
 */
async function endLeases(tx: Transaction, ending: SQL, actor: Actor): Promise<EndedLease[]> {
  return queryRows<EndedLease>(
    tx,
    sql`
    with wanted as (${ending}),
    ending as (select *, ${nextStatus} as next_status from wanted),
    lease as (
      update lessor.environment_leases lease set ${endedLeaseColumns} = (${endedLeaseValues})
      from ending
      where lease.id = ending.lease_id and lease.status = ending.from_status
      returning lease.*, ending.from_status
    ), told as (${recordEnded(actor, sql`lease left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id`)}
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
  return endLeases(tx, endingOfEndedRuns(sql`lease.heartbeat_run_id = any(${uuidArray(runIds)})`), actor);
}

/**
 * Ends those of the leases that are live though their run has ended. Rows that someone else has locked are skipped:
 * they are being ended already, and the sweep never waits, so it can neither block nor deadlock with an operation.
 */
export async function endOrphanedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  actor: Actor,
): Promise<EndedLease[]> {
  const orphaned = sql`lease.id = any(${uuidArray(leaseIds)}) for update of lease skip locked`;
  return endLeases(tx, endingOfEndedRuns(orphaned), actor);
}

/** An instant as it stands in a reason: whole seconds in UTC. */
const inWords = (instant: string) => sql.raw(`to_char(${instant} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`);

const lapsed = sql.raw(
  `lease.status in ('pending', 'active', 'retained') and lease.expires_at <= statement_timestamp()`,
);

/** What to do about a row that someone else has locked: the sweep leaves it alone, an operation waits for it. */
export type RowLocking = 'skip locked' | 'wait';

/** Expires those of the leases that have lapsed. */
export async function expireLapsedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  locking: RowLocking,
  actor: Actor,
): Promise<EndedLease[]> {
  return endLeases(
    tx,
    sql`
      select lease.id as lease_id, lease.status as from_status, 'expired' as status,
        concat_ws('; ', lease.failure_reason,
          case lease.status when 'retained' then 'kept after its run until ' else 'not renewed before ' end
            || ${inWords('lease.expires_at')}) as failure_reason,
        ${cleanupOfEndedLease} as cleanup_status
      from lessor.environment_leases lease
      where lease.id = any(${uuidArray(leaseIds)}) and ${lapsed}
      for update of lease ${sql.raw(locking === 'wait' ? '' : locking)}`,
    actor,
  );
}

/**
 * Fails those of the leases whose acquisition was begun and never completed: they are pending still, and nobody has
 * touched them for so long. One whose run has ended, or that has lapsed, is left to those who say so. Rows that
 * someone else has locked are skipped: their acquisition may be about to be completed.
 */
export async function failAbandonedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  untouchedSeconds: number,
  actor: Actor,
): Promise<EndedLease[]> {
  return endLeases(
    tx,
    sql`
      select lease.id as lease_id, lease.status as from_status, 'failed' as status,
        'acquisition never completed: not touched since ' || ${inWords('lease.last_used_at')} as failure_reason,
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

/** A lease to be ended for a reason of the caller's. */
export interface LeaseEnding {
  leaseId: string;
  fromStatus: LeaseStatus;
  status: LeaseStatus;
  failureReason: string | null;
  cleanupStatus: CleanupStatus;
}

/** Ends leases as told: releases by a service, and holders of a workspace that are superseded. */
export async function endLeasesAsTold(
  tx: Transaction,
  endings: readonly LeaseEnding[],
  actor: Actor,
): Promise<EndedLease[]> {
  return endLeases(
    tx,
    sql`
      select "leaseId" as lease_id, "fromStatus" as from_status, status, "failureReason" as failure_reason,
        "cleanupStatus" as cleanup_status
      from jsonb_to_recordset(${jsonRows(endings)}) as ending (
        "leaseId" uuid, "fromStatus" text, status text, "failureReason" text, "cleanupStatus" text)`,
    actor,
  );
}
