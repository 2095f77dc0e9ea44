import type { Logger } from 'pino';
import type { LeaseRelease } from '../../contracts/index.ts';
import type { Db, Transaction } from '../../db/connection.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { endOrphanedLeases, expireLeases, failAbandonedLeases } from '../../db/statements/end-leases.ts';
import type { EndedLease } from '../../db/statements/end-leases.ts';
import {
  findAbandonedLeases,
  findExpiredLeases,
  findOrphanedLeases,
} from '../../db/statements/find-leases-to-sweep.ts';
import type { AbandonedLease, ExpiredLease, OrphanedLease } from '../../db/statements/find-leases-to-sweep.ts';
import { ACQUISITION_LIMITS } from '../../environments/drivers/driver.ts';
import { processPage } from './pages.ts';
import type { PageResult } from './pages.ts';

/** What a sweep of leases works with. */
export interface LeaseSweepDependencies {
  db: Db;
  actor: Actor;
  logger: Logger;
  /** Publishes jobs that clean up after leases. */
  requestReleases: (releases: readonly LeaseRelease[]) => Promise<void>;
  /** Most rows read by one statement and changed in one transaction. */
  batchSize: number;
}

/** How many leases each rule ended. */
export interface LeaseSweepResult {
  /** Live leases whose run had ended. */
  orphaned: number;
  /** Leases past `expires_at`. */
  expired: number;
  /** Pending leases whose acquisition nobody completed. */
  abandoned: number;
  /** Leases that could not be ended: each is in the log with its error, and the next sweep tries it again. */
  failed: number;
}

/** A sweep rule: how to find one kind of lease, page by page, and how to end it. */
interface SweepRule<Found extends { leaseId: string }> {
  find(db: Db, limit: number, after?: Found): Promise<Found[]>;
  end(tx: Transaction, leaseIds: readonly string[], actor: Actor): Promise<EndedLease[]>;
}

const ORPHANED: SweepRule<OrphanedLease> = { find: findOrphanedLeases, end: endOrphanedLeases };

const EXPIRED: SweepRule<ExpiredLease> = {
  find: findExpiredLeases,
  end: (tx, leaseIds, actor) => expireLeases(tx, leaseIds, 'skip locked', actor),
};

const ABANDONED: SweepRule<AbandonedLease> = {
  find: (db, limit, after) => findAbandonedLeases(db, ACQUISITION_LIMITS.pendingSeconds, limit, after),
  end: (tx, leaseIds, actor) => failAbandonedLeases(tx, leaseIds, ACQUISITION_LIMITS.pendingSeconds, actor),
};

/** Ends every lease that should have ended by now (no-leak). */
export async function sweepLeases(dependencies: LeaseSweepDependencies): Promise<LeaseSweepResult> {
  // A lease that several rules match ends by the first: the end of its run explains more than its expiry, and that more
  // than an abandoned acquisition.
  const orphaned = await applyRule(ORPHANED, dependencies);
  const expired = await applyRule(EXPIRED, dependencies);
  const abandoned = await applyRule(ABANDONED, dependencies);
  return {
    orphaned: orphaned.done,
    expired: expired.done,
    abandoned: abandoned.done,
    failed: orphaned.failed + expired.failed + abandoned.failed,
  };
}

/** One pass over all pages. The cursor only moves forward, so the pass ends even if no lease can be ended. */
async function applyRule<Found extends { leaseId: string }>(
  rule: SweepRule<Found>,
  dependencies: LeaseSweepDependencies,
): Promise<PageResult> {
  const { db, batchSize, logger } = dependencies;
  const total = { done: 0, failed: 0 };
  let cursor: Found | undefined;
  for (;;) {
    const page = await rule.find(db, batchSize, cursor);
    const result = await processPage(
      page.map((found) => found.leaseId),
      {
        apply: (leaseIds) => endLeases(rule, leaseIds, dependencies),
        onFailed: (lease, error) =>
          logger.error({ event: 'lease_sweep_failed', err: error, lease }, 'lease sweep failed'),
      },
    );
    total.done += result.done;
    total.failed += result.failed;
    cursor = page.at(-1);
    if (page.length < batchSize) return total;
  }
}

async function endLeases<Found extends { leaseId: string }>(
  rule: SweepRule<Found>,
  leaseIds: readonly string[],
  { db, actor, logger, requestReleases }: LeaseSweepDependencies,
): Promise<number> {
  const ended = await db.transaction((tx) => rule.end(tx, leaseIds, actor));
  for (const { id, companyId, runId, status } of ended) {
    logger.info({ event: 'lease_swept', company: companyId, run: runId, lease: id, status }, 'lease swept');
  }
  const uncleaned = ended.filter((lease) => lease.status === 'pending_cleanup');
  await requestReleases(uncleaned.map(({ id, companyId }) => ({ version: 1, companyId, leaseId: id })));
  return ended.length;
}
