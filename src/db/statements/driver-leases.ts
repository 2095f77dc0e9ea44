import { sql } from 'drizzle-orm';
import type { CleanupStatus, GrantedLease, LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { grantedLeaseJson } from './acquire-leases.ts';
import type { NewLease } from './acquire-leases.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** How far a pending lease may be from the last sign of whoever acquires it. */
export interface PendingLimit {
  /** Longest time without a sign, in seconds: the sweep ends the lease then, and it must not lapse before. */
  pendingSeconds: number;
}

/**
 * Makes leases that a driver is to acquire: the first of the two steps in which that is done, so that whatever the
 * driver does is known of, come what may (no-leak). It is told when the second one is done. They hold what an active
 * one does: their run's only lease on the environment (one-lease), the execution workspace (single-flight), and an end
 * (always-bounded). Their fencing tokens are provisional.
 *
 * @returns the leases, in the order given
 */
export async function preparePendingLeases(
  tx: Transaction,
  leases: readonly NewLease[],
  { pendingSeconds }: PendingLimit,
): Promise<GrantedLease[]> {
  const rows = leases.map((lease, ordinal) => ({ ordinal, ...lease }));
  const prepared = await queryRows<{ lease: GrantedLease }>(
    tx,
    sql`
    with lease as (
      insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, execution_workspace_id,
        issue_id, status, lease_policy, provider, provider_lease_id, ttl_seconds, acquired_at, last_used_at, expires_at,
        metadata)
      select "companyId", "environmentId", "runId", "executionWorkspaceId", "issueId", 'pending', "leasePolicy",
        environment.driver, "providerLeaseId", "ttlSeconds", statement_timestamp(), statement_timestamp(),
        statement_timestamp() + make_interval(secs => greatest("ttlSeconds", ${pendingSeconds}::int)), wanted.metadata
      from jsonb_to_recordset(${jsonRows(rows)}) as wanted (
        ordinal int, "companyId" uuid, "environmentId" uuid, "runId" uuid, "executionWorkspaceId" uuid, "issueId" uuid,
        "leasePolicy" text, "providerLeaseId" text, "ttlSeconds" int, metadata jsonb)
      join lessor.environments environment on environment.id = "environmentId"
      order by ordinal
      returning *
    ), served as (
      delete from lessor.workspace_waits wait using lease where wait.run_id = lease.heartbeat_run_id
    )
    select ${grantedLeaseJson} as lease
    from lease join lessor.environments environment on environment.id = lease.environment_id
    order by lease.fencing_token`,
  );
  return prepared.map((row) => row.lease);
}

/** Gives a sign that somebody is about to acquire these leases, where they are still pending. */
export async function touchPendingLeases(
  tx: Transaction,
  leaseIds: readonly string[],
  { pendingSeconds }: PendingLimit,
): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set
      last_used_at = statement_timestamp(),
      expires_at = greatest(expires_at, statement_timestamp() + make_interval(secs => ${pendingSeconds}::int)),
      updated_at = statement_timestamp()
    where id = any(${uuidArray(leaseIds)}) and status = 'pending'`);
}

/**
 * Says of leases that a driver begins to acquire them, and until when it may be at work: they are not cleaned up
 * before, lest it make something once more that had just been removed (no-leak).
 *
 * @returns which of the leases are still to be acquired
 */
export async function beginAcquisitions(
  tx: Transaction,
  leaseIds: readonly string[],
  limit: PendingLimit & { acquiringSeconds: number },
): Promise<Set<string>> {
  await touchPendingLeases(tx, leaseIds, limit);
  const begun = await queryRows<{ id: string }>(
    tx,
    sql`
    update lessor.environment_leases set
      acquiring_until = statement_timestamp() + make_interval(secs => ${limit.acquiringSeconds}::int)
    where id = any(${uuidArray(leaseIds)}) and status = 'pending'
    returning id`,
  );
  return new Set(begun.map((lease) => lease.id));
}

/** An attempt of a driver that failed. */
export interface FailedAttempt {
  leaseId: string;
  reason: string;
  /** Which attempt it was, from 1. */
  attempt: number;
}

/** An attempt to acquire that failed. */
export interface FailedAcquisitionAttempt extends FailedAttempt {
  /** Whether the driver has stopped working at it. */
  isOver: boolean;
}

/** Records that an acquisition failed, and that it is over where it is. */
export async function recordFailedAcquisitions(
  tx: Transaction,
  failures: readonly FailedAcquisitionAttempt[],
): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases lease set
      acquiring_until = case
        when not "isOver" then lease.acquiring_until
        -- it may have made something since its cleanup began
        when lease.status = 'pending_cleanup' then statement_timestamp()
      end,
      failure_reason = case lease.status when 'pending' then reason else lease.failure_reason end,
      metadata = coalesce(lease.metadata, '{}') || jsonb_build_object('acquireAttempts', attempt),
      last_used_at = statement_timestamp(),
      updated_at = statement_timestamp()
    from jsonb_to_recordset(${jsonRows(failures)}) as failure ("leaseId" uuid, reason text, attempt int, "isOver" boolean)
    where lease.id = "leaseId" and lease.status in ('pending', 'pending_cleanup')`);
}

/** What decides about cleaning up after a lease. */
export interface LeaseToCleanUp {
  lease: GrantedLease;
  companyId: string;
  /** The lease's own, or where it names none the driver of its environment. */
  provider: string;
  cleanupStatus: CleanupStatus | null;
  /** What it becomes once it is cleaned up, and why; null for one whose cleanup was asked for by hand. */
  endingStatus: Extract<LeaseStatus, 'released' | 'expired' | 'failed'> | null;
  endingReason: string | null;
  /**
   * How long its driver may still be at work acquiring it, in milliseconds: 0 when it is done with that, or has had its
   * time; null when nothing was heard of that since its cleanup began.
   */
  acquiringForMs: number | null;
}

/** Reads leases, by id. The companies' locks must be held. */
export async function readLeasesToCleanUp(
  tx: Transaction,
  leaseIds: readonly string[],
): Promise<Map<string, LeaseToCleanUp>> {
  const leases = await queryRows<LeaseToCleanUp>(
    tx,
    sql`
    select ${grantedLeaseJson} as lease, lease.company_id as "companyId",
      coalesce(lease.provider, environment.driver) as provider, lease.cleanup_status as "cleanupStatus",
      lease.ending_status as "endingStatus", lease.ending_reason as "endingReason",
      case when lease.acquiring_until is not null then
        greatest(0, extract(epoch from lease.acquiring_until - statement_timestamp()) * 1000)::float8
      end as "acquiringForMs"
    from lessor.environment_leases lease
    join lessor.environments environment on environment.id = lease.environment_id
    where lease.id = any(${uuidArray(leaseIds)})`,
  );
  return new Map(leases.map((found) => [found.lease.id, found]));
}

/**
 * Says of leases that their cleanup begins: an acquisition that is reported from now on has made something that it may
 * have missed (no-leak).
 */
export async function beginCleanups(tx: Transaction, leaseIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set acquiring_until = null
    where id = any(${uuidArray(leaseIds)}) and acquiring_until <= statement_timestamp()`);
}

/** Takes up the cleanup of leases again that had failed for good, as an operator asks for. */
export async function reopenFailedCleanups(tx: Transaction, leaseIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set
      status = 'pending_cleanup', cleanup_status = 'pending', released_at = null, updated_at = statement_timestamp()
    where id = any(${uuidArray(leaseIds)}) and status = 'failed' and cleanup_status = 'failed'
      and ending_status is not null`);
}

/** Records on leases that wait for their cleanup why it failed, and how often it was tried (always-explained). */
export async function recordFailedCleanups(tx: Transaction, failures: readonly FailedAttempt[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases lease set
      failure_reason = concat_ws('; ', lease.ending_reason, 'release attempt ' || attempt || ' failed: ' || reason),
      metadata = coalesce(lease.metadata, '{}') || jsonb_build_object('releaseAttempts', attempt),
      last_used_at = statement_timestamp(),
      updated_at = statement_timestamp()
    from jsonb_to_recordset(${jsonRows(failures)}) as failure ("leaseId" uuid, reason text, attempt int)
    where lease.id = "leaseId" and lease.status = 'pending_cleanup'`);
}
