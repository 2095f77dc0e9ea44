import type { LeaseStatus } from '../../contracts/index.ts';
import type { EnvironmentLease } from '../../environments/service/input.ts';
import type { Lab } from './lab.ts';
import { waitUntil } from './wait-until.ts';

/** Waits until a lease has a status, and resolves to how it stands in Postgres then. */
export async function leaseInStatus(
  lab: Lab,
  leaseId: string,
  status: LeaseStatus,
  signal: AbortSignal,
): Promise<EnvironmentLease> {
  let found: EnvironmentLease | null = null;
  try {
    return await waitUntil(async () => {
      found = await lab.environments.getLeaseById(leaseId);
      return found?.status === status ? found : undefined;
    }, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Error(`the lease is ${describe(found)} instead of ${status}`, { cause: error });
  }
}

function describe(lease: EnvironmentLease | null): string {
  if (lease === null) return 'unknown';
  return lease.failureReason === null ? lease.status : `${lease.status} (${lease.failureReason})`;
}
