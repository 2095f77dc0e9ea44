import type { CompanyStatus, GrantedLease, LeaseRelease, LeaseReleaseResult } from '../../contracts/index.ts';
import type { Transaction } from '../../db/connection.ts';
import type { Actor } from '../../db/statements/activity.ts';
import {
  beginCleanups,
  readLeasesToCleanUp,
  recordFailedCleanups,
  reopenFailedCleanups,
} from '../../db/statements/driver-leases.ts';
import type { LeaseToCleanUp } from '../../db/statements/driver-leases.ts';
import { endLeases } from '../../db/statements/end-leases.ts';
import type { LeaseEnding } from '../../db/statements/end-leases.ts';
import { hasExternalEffects } from '../../db/statements/external-effects.ts';
import { done, rejectionOfUnknownCompany } from './operation.ts';
import type { FailedCleanup, LeaseSubject, Outcome } from './operation.ts';

/**
 * Ends each lease whose cleanup is pending and has no external effects; the outcome of the others is that their driver is to
 * clean up. A cleanup that had failed permanently is reopened, and a lease in any other status is unchanged. The companies'
 * locks must be held. Each lease may be given once. Outcomes are in the order given.
 */
export async function cleanUpLeases(
  tx: Transaction,
  releases: readonly LeaseRelease[],
  companies: ReadonlyMap<string, CompanyStatus>,
  actor: Actor,
): Promise<Outcome<LeaseReleaseResult>[]> {
  const leases = await readLeasesToCleanUp(tx, idsOf(releases));
  const owned = releases.flatMap((release) => leaseOf(release, leases) ?? []);
  const ending = owned.filter((found) => isWaiting(found) && !hasExternalEffects(found.provider));
  const ended = await endLeases(tx, ending.map(endingAfterCleanup), actor);
  const statuses = new Map(ended.map(({ id, status }) => [id, status]));
  const forDriver = owned.filter(isForDriver);
  if (forDriver.length > 0) {
    const ids = forDriver.map(({ lease }) => lease.id);
    await reopenFailedCleanups(tx, ids);
    await beginCleanups(tx, ids);
  }

  return releases.map((release) => {
    const rejection = rejectionOfUnknownCompany(companies, release.companyId);
    if (rejection !== undefined) return { kind: 'rejected', rejection };
    const found = leaseOf(release, leases);
    if (found === undefined) return rejectedAsUnknown(release);
    const { lease } = found;
    if (!isForDriver(found)) return done({ leaseId: lease.id, status: statuses.get(lease.id) ?? lease.status });
    return isBeingAcquired(found) ? snoozed(lease) : { kind: 'cleaning', lease, provider: found.provider };
  });
}

/**
 * Ends leases that their drivers have cleaned up after, with the status that was decided for each. When an acquisition was
 * reported since the cleanup began, the cleanup is repeated (no-leak). Outcomes are in the order given.
 */
export async function finishCleanups(
  tx: Transaction,
  releases: readonly LeaseSubject[],
  actor: Actor,
): Promise<Outcome<LeaseReleaseResult>[]> {
  const leases = await readLeasesToCleanUp(tx, idsOf(releases));
  const waiting = releases.flatMap((release) => leaseOf(release, leases) ?? []).filter(isWaiting);
  const ending = waiting.filter((found) => !isAcquiredSince(found));
  const ended = await endLeases(tx, ending.map(endingAfterCleanup), actor);
  return resultsOf(releases, leases, ended).map((outcome, position) => {
    const found = leaseOf(releases[position]!, leases);
    return found !== undefined && isWaiting(found) && isAcquiredSince(found) ? snoozed(found.lease) : outcome;
  });
}

/** Records why cleanups failed, and ends leases without a further attempt as failed (always-explained). */
export async function failCleanups(
  tx: Transaction,
  failures: readonly FailedCleanup[],
  actor: Actor,
): Promise<Outcome<LeaseReleaseResult>[]> {
  await recordFailedCleanups(tx, failures);
  const leases = await readLeasesToCleanUp(tx, idsOf(failures));
  const endings = failures.flatMap((failure) => {
    const found = leaseOf(failure, leases);
    return failure.isFinal && found !== undefined && isWaiting(found) ? endingWithoutCleanup(found) : [];
  });
  const ended = await endLeases(tx, endings, actor);
  return resultsOf(failures, leases, ended);
}

function idsOf(subjects: readonly LeaseSubject[]): string[] {
  return subjects.map((subject) => subject.leaseId);
}

/** The lease that the operation is about; undefined for an unknown one and for another company's (same-company). */
function leaseOf(subject: LeaseSubject, leases: ReadonlyMap<string, LeaseToCleanUp>): LeaseToCleanUp | undefined {
  const found = leases.get(subject.leaseId);
  return found?.companyId === subject.companyId ? found : undefined;
}

function isWaiting({ lease }: LeaseToCleanUp): boolean {
  return lease.status === 'pending_cleanup';
}

function hasFailedPermanently({ lease, cleanupStatus, endingStatus }: LeaseToCleanUp): boolean {
  return lease.status === 'failed' && cleanupStatus === 'failed' && endingStatus !== null;
}

function isForDriver(found: LeaseToCleanUp): boolean {
  return (isWaiting(found) && hasExternalEffects(found.provider)) || hasFailedPermanently(found);
}

function isBeingAcquired({ acquiringForMs }: LeaseToCleanUp): boolean {
  return acquiringForMs !== null && acquiringForMs > 0;
}

/** Whether an acquisition was begun or reported whose effects the cleanup may have missed. */
function isAcquiredSince({ acquiringForMs }: LeaseToCleanUp): boolean {
  return acquiringForMs !== null;
}

function snoozed({ id }: GrantedLease): Outcome<never> {
  return {
    kind: 'snoozed',
    reason: `the driver may still be acquiring lease ${id}, or have acquired it during its cleanup`,
  };
}

/** A lease that failed before its cleanup keeps its reason (always-explained). */
function endingAfterCleanup({ lease, endingStatus, endingReason }: LeaseToCleanUp): LeaseEnding {
  const failureReason = endingStatus === null ? lease.failureReason : endingReason;
  const isFailed = failureReason !== null && failureReason !== '';
  return {
    leaseId: lease.id,
    fromStatus: lease.status,
    status: endingStatus ?? (isFailed ? 'failed' : 'released'),
    failureReason,
    cleanupStatus: 'success',
  };
}

function endingWithoutCleanup({ lease }: LeaseToCleanUp): LeaseEnding {
  return {
    leaseId: lease.id,
    fromStatus: lease.status,
    status: 'failed',
    failureReason: lease.failureReason,
    cleanupStatus: 'failed',
  };
}

function resultsOf(
  subjects: readonly LeaseSubject[],
  leases: ReadonlyMap<string, LeaseToCleanUp>,
  ended: readonly { id: string; status: LeaseReleaseResult['status'] }[],
): Outcome<LeaseReleaseResult>[] {
  const statuses = new Map(ended.map(({ id, status }) => [id, status]));
  return subjects.map((subject) => {
    const found = leaseOf(subject, leases);
    if (found === undefined) return rejectedAsUnknown(subject);
    return done({ leaseId: subject.leaseId, status: statuses.get(subject.leaseId) ?? found.lease.status });
  });
}

function rejectedAsUnknown({ companyId, leaseId }: LeaseSubject): Outcome<never> {
  return {
    kind: 'rejected',
    rejection: { code: 'unknown_lease', reason: `company ${companyId} has no lease ${leaseId}` },
  };
}
