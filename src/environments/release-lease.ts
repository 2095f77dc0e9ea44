import { sql } from 'drizzle-orm';
import type { z } from 'zod';
import { ENDED_LEASE_STATUSES, ENVIRONMENT_DRIVERS, InvalidTransitionError } from '../contracts/index.ts';
import type { CleanupStatus, LeaseStatus } from '../contracts/index.ts';
import { queryRows } from '../db/connection.ts';
import type { Transaction } from '../db/connection.ts';
import type { LeaseEnding } from '../db/statements/end-leases.ts';
import { isWithoutOutsideEffects } from './drivers/outside-effects.ts';
import type { EnvironmentLease } from './lease-register.ts';
import type { ReleaseStatus, releaseDetailsSchema } from './service-input.ts';

const CLEANUP_BY_STATUS: Record<ReleaseStatus, CleanupStatus> = {
  released: 'success',
  failed: 'success',
  expired: 'success',
  retained: 'pending',
};

const REASON_BY_STATUS: Record<ReleaseStatus, string | null> = {
  released: null,
  failed: 'ended as failed by its service, which gave no reason',
  expired: 'not renewed before it lapsed',
  retained: null,
};

/**
 * How the lease is to be ended; undefined when it has ended already. What a driver has acquired is cleaned up after by
 * workers, and the lease ends then, unless the service says itself how the cleanup went. The company's lock must be held.
 */
export async function resolveRelease(
  tx: Transaction,
  lease: EnvironmentLease,
  status: ReleaseStatus,
  details: z.output<typeof releaseDetailsSchema>,
): Promise<LeaseEnding | undefined> {
  if (isOneOf(ENDED_LEASE_STATUSES, lease.status)) return undefined;
  const cleanupStatus = details.cleanupStatus ?? (isOfDriver(lease) ? 'pending' : CLEANUP_BY_STATUS[status]);
  if (lease.status === 'pending_cleanup' && cleanupStatus === 'pending') return undefined;
  if (status === 'retained' && lease.status !== 'active') {
    throw new InvalidTransitionError(lease.id, `is ${lease.status}, and only an active lease can be retained`);
  }
  if (status === 'expired' && !(await hasLapsed(tx, lease.id))) {
    throw new InvalidTransitionError(
      lease.id,
      'has not lapsed yet, so it cannot be called expired; release it instead',
    );
  }
  return {
    leaseId: lease.id,
    fromStatus: lease.status,
    status,
    failureReason: details.failureReason ?? lease.failureReason ?? REASON_BY_STATUS[status],
    cleanupStatus,
  };
}

/** Whether a driver of the workers stands behind the lease, and no provisioning of the service's own. */
function isOfDriver({ provider }: EnvironmentLease): boolean {
  return ENVIRONMENT_DRIVERS.some((driver) => driver === provider && !isWithoutOutsideEffects(driver));
}

function isOneOf(statuses: readonly LeaseStatus[], status: LeaseStatus): boolean {
  return statuses.includes(status);
}

async function hasLapsed(tx: Transaction, leaseId: string): Promise<boolean> {
  const [row] = await queryRows<{ lapsed: boolean }>(
    tx,
    sql`select expires_at <= now() as lapsed from lessor.environment_leases where id = ${leaseId}`,
  );
  return row!.lapsed;
}
