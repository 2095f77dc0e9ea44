import type { Logger } from 'pino';
import type { LeaseRelease } from '../contracts/index.ts';
import type { Db, Transaction } from '../db/connection.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endOrphanedLeases, expireLeases, failAbandonedLeases } from '../db/statements/end-leases.ts';
import type { EndedLease } from '../db/statements/end-leases.ts';
import { findAbandonedLeases, findExpiredLeases, findOrphanedLeases } from '../db/statements/find-leases-to-sweep.ts';
import type { AbandonedLease, ExpiredLease, OrphanedLease } from '../db/statements/find-leases-to-sweep.ts';
import { ACQUISITION_LIMITS } from '../environments/acquisition-limits.ts';
import { workOnPage } from './isolated-page.ts';
import type { PageResult } from './isolated-page.ts';

/** What a sweep of leases works with. */
export interface LeaseSweepDependencies {
  db: Db;
  actor: Actor;
  logger: Logger;
  /** Publishes jobs that clean up after leases. */
  requestReleases: (releases: readonly LeaseRelease[]) => Promise<void>;
  /** Most leases ended in one transaction. */
  batchSize: number;
}

/** Which leases a sweep ended. */
export interface LeaseSweepResult {
  /** Live leases whose run had ended. */
  orphaned: number;
  /** Leases that had lapsed. */
  expired: number;
  /** Pending leases whose acquisition nobody completed. */
  abandoned: number;
  /** Leases that could not be ended; each is in the log with its error, and is tried again by the next sweep. */
  failed: number;
}

/** One kind of lease to be swept: how to find it, page by page, and how to end it. */
interface Broom<Found extends { leaseId: string }> {
  find(db: Db, limit: number, after?: Found): Promise<Found[]>;
  end(tx: Transaction, leaseIds: readonly string[], actor: Actor): Promise<EndedLease[]>;
}

const ORPHANED: Broom<OrphanedLease> = { find: findOrphanedLeases, end: endOrphanedLeases };

const LAPSED: Broom<ExpiredLease> = {
  find: findExpiredLeases,
  end: (tx, leaseIds, actor) => expireLeases(tx, leaseIds, 'skip locked', actor),
};

const ABANDONED: Broom<AbandonedLease> = {
  find: (db, limit, after) => findAbandonedLeases(db, ACQUISITION_LIMITS.pendingSeconds, limit, after),
  end: (tx, leaseIds, actor) => failAbandonedLeases(tx, leaseIds, ACQUISITION_LIMITS.pendingSeconds, actor),
};

/**
 * Ends every lease that should have ended by now (no-leak), whatever became of the messages about it. Any number of
 * replicas may sweep at once: each lease is ended once, because whoever finds its row locked leaves it alone.
 */
export async function sweepLeases(dependencies: LeaseSweepDependencies): Promise<LeaseSweepResult> {
  // What ended first is what is said: a run's end comes before a lapse, and a lapse before an abandoned acquisition.
  const orphaned = await sweep(ORPHANED, dependencies);
  const expired = await sweep(LAPSED, dependencies);
  const abandoned = await sweep(ABANDONED, dependencies);
  return {
    orphaned: orphaned.done,
    expired: expired.done,
    abandoned: abandoned.done,
    failed: orphaned.failed + expired.failed + abandoned.failed,
  };
}

/** One pass in pages: the cursor only moves forward, so a pass ends whatever the rows are like. */
async function sweep<Found extends { leaseId: string }>(
  broom: Broom<Found>,
  dependencies: LeaseSweepDependencies,
): Promise<PageResult> {
  const { db, batchSize, logger } = dependencies;
  const total = { done: 0, failed: 0 };
  let cursor: Found | undefined;
  for (;;) {
    const page = await broom.find(db, batchSize, cursor);
    const result = await workOnPage(
      page.map((found) => found.leaseId),
      {
        on: (leaseIds) => end(broom, leaseIds, dependencies),
        onFailed: (lease, error) => logger.error({ err: error, lease }, 'lease could not be swept'),
      },
    );
    total.done += result.done;
    total.failed += result.failed;
    cursor = page.at(-1);
    if (page.length < batchSize) return total;
  }
}

async function end<Found extends { leaseId: string }>(
  broom: Broom<Found>,
  leaseIds: readonly string[],
  { db, actor, logger, requestReleases }: LeaseSweepDependencies,
): Promise<number> {
  const ended = await db.transaction((tx) => broom.end(tx, leaseIds, actor));
  for (const { id, companyId, runId, status } of ended) {
    logger.info({ company: companyId, run: runId, lease: id, status }, 'lease swept');
  }
  const waiting = ended.filter((lease) => lease.status === 'pending_cleanup');
  await requestReleases(waiting.map(({ id, companyId }) => ({ version: 1, companyId, leaseId: id })));
  return ended.length;
}
