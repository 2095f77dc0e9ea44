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
 * Ends each lease that waits for its cleanup and has none outside Postgres, all of them with one set of statements; for
 * the others a driver is to be asked. One whose cleanup had failed for good is taken up again, and a lease in any other
 * status is left as it is. The companies' locks must be held. Each lease may be given once. Outcomes are in the order
 * given.
 */
export async function cleanUpLeases(
  tx: Transaction,
  releases: readonly LeaseRelease[],
  companies: ReadonlyMap<string, CompanyStatus>,
  actor: Actor,
): Promise<Outcome<LeaseReleaseResult>[]> {
  const leases = await readLeasesToCleanUp(tx, idsOf(releases));
  const own = releases.flatMap((release) => leaseOf(release, leases) ?? []);
  const ending = own.filter((found) => isWaiting(found) && !hasExternalEffects(found.provider));
  const ended = await endLeases(tx, ending.map(endingAfterCleanup), actor);
  const statuses = new Map(ended.map(({ id, status }) => [id, status]));
  const forDriver = own.filter(isForDriver);
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
 * Ends leases that their drivers have cleaned up after, as each was to end. One of which an acquisition was reported since
 * its cleanup began is to be cleaned up once more. Outcomes are in the order given.
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

/** Records why drivers could not clean up after leases, and ends those that nobody will try again as failed. */
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

/** The lease that the message is about; undefined for an unknown one, and for another company's (same-company). */
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

/** Whether an acquisition was begun or reported of which the cleanup may have missed something. */
function isAcquiredSince({ acquiringForMs }: LeaseToCleanUp): boolean {
  return acquiringForMs !== null;
}

function snoozed({ id }: GrantedLease): Outcome<never> {
  return { kind: 'snoozed', reason: `lease ${id} may have been acquired meanwhile, or still be so` };
}

/** A lease that failed before its cleanup says so still (always-explained). */
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
