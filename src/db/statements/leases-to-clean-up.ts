import { sql } from 'drizzle-orm';
import type { CleanupStatus, GrantedLease, LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { grantedLeaseJson } from './lease-json.ts';
import { jsonRows, uuidArray } from './parameters.ts';
import type { FailedAttempt } from './pending-leases.ts';

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
