import { sql } from 'drizzle-orm';
import type { CleanupStatus, GrantedLease, LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { grantedLeaseJson } from './acquire-leases.ts';
import type { NewLease } from './acquire-leases.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** Bounds of a pending lease. */
export interface PendingLimit {
  /** Seconds without a heartbeat of its acquirer after which the sweep ends the lease; it must not expire before. */
  pendingSeconds: number;
}

/**
 * Inserts pending leases, the first step of an acquisition by a driver: it is committed before the driver is called, so
 * that the sweep finds what a crash leaves behind (no-leak). The event is recorded with the second step. A pending lease
 * holds what an active one does: the run's only lease on the environment (one-lease), the execution workspace
 * (single-flight) and an end (always-bounded). Its fencing token is provisional.
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
        statement_timestamp() + make_interval(secs => greatest("ttlSeconds", ${pendingSeconds}::int)), requested.metadata
      from jsonb_to_recordset(${jsonRows(rows)}) as requested (
        ordinal int, "companyId" uuid, "environmentId" uuid, "runId" uuid, "executionWorkspaceId" uuid, "issueId" uuid,
        "leasePolicy" text, "providerLeaseId" text, "ttlSeconds" int, metadata jsonb)
      join lessor.environments environment on environment.id = "environmentId"
      order by ordinal
      returning *
    ), deleted_wait as (
      delete from lessor.workspace_waits wait using lease where wait.run_id = lease.heartbeat_run_id
    )
    select ${grantedLeaseJson} as lease
    from lease join lessor.environments environment on environment.id = lease.environment_id
    order by lease.fencing_token`,
  );
  return prepared.map((row) => row.lease);
}

/** Records a heartbeat of whoever acquires these leases, where they are still pending. */
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
 * Records that drivers begin to acquire leases, and until when they may take: no cleanup begins before, since the driver
 * could create again what the cleanup has just removed (no-leak).
 *
 * @returns the leases that are still pending
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

/** A failed attempt of a driver. */
export interface FailedAttempt {
  leaseId: string;
  reason: string;
  /** Which attempt it was, from 1. */
  attempt: number;
}

/** A failed attempt to acquire. */
export interface FailedAcquisitionAttempt extends FailedAttempt {
  /** Whether the driver's call has ended. */
  isOver: boolean;
}

/** Records that acquisitions failed, and which of them are over (always-explained). */
export async function recordFailedAcquisitions(
  tx: Transaction,
  failures: readonly FailedAcquisitionAttempt[],
): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases lease set
      acquiring_until = case
        when not "isOver" then lease.acquiring_until
        -- it may have created something since its cleanup began
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
  /** Its status once it is cleaned up, and the reason; null when an operator requested the cleanup. */
  endingStatus: Extract<LeaseStatus, 'released' | 'expired' | 'failed'> | null;
  endingReason: string | null;
  /**
   * How long its driver may still be acquiring it, in milliseconds: 0 when the driver has finished or its time is over;
   * null when no acquisition was reported since the cleanup began.
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
 * Records that the cleanup of leases begins: it may miss what an acquisition created that is reported from now on, which
 * therefore needs another cleanup (no-leak).
 */
export async function beginCleanups(tx: Transaction, leaseIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set acquiring_until = null
    where id = any(${uuidArray(leaseIds)}) and acquiring_until <= statement_timestamp()`);
}

/** Reopens the cleanup of leases where it had failed permanently, as an operator requests. */
export async function reopenFailedCleanups(tx: Transaction, leaseIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set
      status = 'pending_cleanup', cleanup_status = 'pending', released_at = null, updated_at = statement_timestamp()
    where id = any(${uuidArray(leaseIds)}) and status = 'failed' and cleanup_status = 'failed'
      and ending_status is not null`);
}

/** Records on leases why their cleanup failed, and in which attempt (always-explained). */
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
