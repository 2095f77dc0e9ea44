import { sql } from 'drizzle-orm';
import type { GrantedLease } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor } from './activity.ts';
import { writePlacementSnapshot, recordAcquired } from './granted-leases.ts';
import { grantedLeaseJson } from './lease-json.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A lease that its driver has acquired. */
export interface AcquiredLease {
  leaseId: string;
  /** What the driver calls what it acquired. */
  providerLeaseId: string;
}

/**
 * Makes pending leases active: the second of the two steps in which a driver acquires. Writes each placement and its
 * fencing token into its run's context snapshot and tells `lease_acquired` (always-audited), in one statement. The lease
 * lasts its ttl from now on (always-bounded), and its fencing token is drawn now, under the company's lock: whoever
 * became active after it has a higher one, however long a driver took (fenced). One that is not pending any more is left
 * alone.
 */
export async function activateLeases(tx: Transaction, acquired: readonly AcquiredLease[], actor: Actor): Promise<void> {
  await tx.execute(sql`
    with lease as (
      update lessor.environment_leases lease set
        status = 'active',
        provider_lease_id = "providerLeaseId",
        acquiring_until = null,
        failure_reason = null,
        fencing_token = nextval('lessor.fencing_tokens'),
        acquired_at = statement_timestamp(),
        last_used_at = statement_timestamp(),
        expires_at = statement_timestamp() + make_interval(secs => lease.ttl_seconds),
        updated_at = statement_timestamp()
      from jsonb_to_recordset(${jsonRows(acquired)}) as acquired ("leaseId" uuid, "providerLeaseId" text)
      where lease.id = "leaseId" and lease.status = 'pending'
      returning lease.*
    ), placed as (${writePlacementSnapshot}
    )${recordAcquired(actor)}`);
}

/**
 * Says of leases that ended while their driver acquired them that it is done now, so that their cleanup can begin, or
 * begin anew. One that has been cleaned up already, since its acquirer was held to be dead, waits for its cleanup anew:
 * the acquirer may have made something since (no-leak). It ends as it did, or was to. One that was taken over is left
 * alone: what was acquired is another lease's by now.
 */
export async function recordSupersededAcquisitions(tx: Transaction, leaseIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set
      acquiring_until = statement_timestamp(),
      ending_status = case when ending_status is null and status <> 'pending_cleanup' then status else ending_status end,
      ending_reason = case when ending_status is null and status <> 'pending_cleanup' then failure_reason
        else ending_reason end,
      status = 'pending_cleanup',
      cleanup_status = 'pending',
      released_at = null,
      updated_at = statement_timestamp()
    where id = any(${uuidArray(leaseIds)}) and status in ('pending_cleanup', 'released', 'failed', 'expired')
      and not (status = 'released' and ending_status is null and provider_lease_id is not null)`);
}

/** Reads leases, by id. The companies' locks must be held. */
export async function readGrantedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
): Promise<Map<string, GrantedLease>> {
  const leases = await queryRows<{ lease: GrantedLease }>(
    tx,
    sql`
    select ${grantedLeaseJson} as lease
    from lessor.environment_leases lease
    join lessor.environments environment on environment.id = lease.environment_id
    where lease.id = any(${uuidArray(leaseIds)})`,
  );
  return new Map(leases.map(({ lease }) => [lease.id, lease]));
}
