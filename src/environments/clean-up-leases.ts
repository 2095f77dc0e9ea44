import type { CompanyStatus, LeaseRelease, LeaseReleaseResult } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endLeasesAsTold } from '../db/statements/end-leases.ts';
import type { LeaseEnding } from '../db/statements/end-leases.ts';
import { readLeasesToCleanUp } from '../db/statements/read-leases-to-clean-up.ts';
import type { LeaseToCleanUp } from '../db/statements/read-leases-to-clean-up.ts';
import { isWithoutOutsideEffects } from './drivers/registry.ts';
import { done } from './outcome.ts';
import type { Outcome } from './outcome.ts';
import { refusalOfUnknownCompany } from './refusals.ts';

/**
 * Ends each lease that waits for its cleanup, all of them with one set of statements; a lease in any other status is
 * left as it is. The companies' locks must be held. Each lease may be given once. Outcomes are in the order given.
 */
export async function cleanUpLeases(
  tx: Transaction,
  releases: readonly LeaseRelease[],
  companies: ReadonlyMap<string, CompanyStatus>,
  actor: Actor,
): Promise<Outcome<LeaseReleaseResult>[]> {
  const leases = await readLeasesToCleanUp(
    tx,
    releases.map((release) => release.leaseId),
  );
  const own = releases.flatMap((release) => leaseOf(release, leases) ?? []);
  const ending = own.filter((lease) => isWaiting(lease) && isWithoutOutsideEffects(lease.provider));
  const ended = await endLeasesAsTold(tx, ending.map(endingAfterCleanup), actor);
  const statuses = new Map(ended.map(({ id, status }) => [id, status]));

  return releases.map((release) => {
    const refusal = refusalOfUnknownCompany(companies, release.companyId);
    if (refusal !== undefined) return { kind: 'refused', refusal };
    const lease = leaseOf(release, leases);
    if (lease === undefined) return refusedAsUnknown(release);
    if (isWaiting(lease) && !isWithoutOutsideEffects(lease.provider)) return withoutDriver(lease);
    return done({ leaseId: lease.id, status: statuses.get(lease.id) ?? lease.status });
  });
}

/** The lease that the message is about; undefined for an unknown one, and for another company's (same-company). */
function leaseOf(release: LeaseRelease, leases: ReadonlyMap<string, LeaseToCleanUp>): LeaseToCleanUp | undefined {
  const lease = leases.get(release.leaseId);
  return lease?.companyId === release.companyId ? lease : undefined;
}

function isWaiting(lease: LeaseToCleanUp): boolean {
  return lease.status === 'pending_cleanup';
}

/** A lease that failed before its cleanup says so still (always-explained). */
function endingAfterCleanup({ id, status, failureReason }: LeaseToCleanUp): LeaseEnding {
  const hasFailed = failureReason !== null && failureReason !== '';
  return {
    leaseId: id,
    fromStatus: status,
    status: hasFailed ? 'failed' : 'released',
    failureReason,
    cleanupStatus: 'success',
  };
}

function refusedAsUnknown({ companyId, leaseId }: LeaseRelease): Outcome<never> {
  return {
    kind: 'refused',
    refusal: { code: 'unknown_lease', reason: `company ${companyId} has no lease ${leaseId}` },
  };
}

/** Another replica can be of a version that has the driver; nothing is called cleaned up that was not. */
function withoutDriver({ id, provider }: LeaseToCleanUp): Outcome<never> {
  return {
    kind: 'unavailable',
    reason: `lease ${id} waits for its cleanup by the provider ${provider}, for which this version has no driver`,
  };
}
