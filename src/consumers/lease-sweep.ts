import type { Logger } from 'pino';
import type { Db, Transaction } from '../db/connection.ts';
import { kindOfSqlError } from '../db/sql-errors.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endOrphanedLeases, expireLapsedLeases } from '../db/statements/end-leases.ts';
import type { EndedLease } from '../db/statements/end-leases.ts';
import { findLapsedLeases, findOrphanedLeases } from '../db/statements/find-leases-to-sweep.ts';
import type { SweepCursor } from '../db/statements/find-leases-to-sweep.ts';

/** What a sweep works with. */
export interface SweepDependencies {
  db: Db;
  actor: Actor;
  logger: Logger;
  /** Most leases ended in one transaction. */
  batchSize: number;
}

/** What a sweep did. */
export interface SweepResult {
  /** Leases that had lapsed. */
  expired: number;
  /** Live leases whose run had ended. */
  orphaned: number;
  /** Leases that could not be ended; each is in the log with its error, and is tried again by the next sweep. */
  failed: number;
}

/** One kind of lease to be swept: how to find it and how to end it. */
interface Broom {
  find(db: Db, limit: number, after?: SweepCursor): Promise<SweepCursor[]>;
  end(tx: Transaction, leaseIds: readonly string[], actor: Actor): Promise<EndedLease[]>;
}

/**
 * Ends every lease that should have ended by now (no-leak), whatever became of the messages about it. Any number of
 * replicas may sweep at once: each lease is ended once, because whoever finds its row locked leaves it alone.
 */
export async function sweepLeases(dependencies: SweepDependencies): Promise<SweepResult> {
  // Ends of runs first: a lease of an ended run that has lapsed as well ends the way its run did.
  const orphaned = await sweep({ find: findOrphanedLeases, end: endOrphanedLeases }, dependencies);
  const expired = await sweep({ find: findLapsedLeases, end: expireLapsed }, dependencies);
  return { expired: expired.ended, orphaned: orphaned.ended, failed: orphaned.failed + expired.failed };
}

const expireLapsed: Broom['end'] = (tx, leaseIds, actor) => expireLapsedLeases(tx, leaseIds, 'skip locked', actor);

/** One pass in pages: the cursor only moves forward, so a pass ends whatever the rows are like. */
async function sweep(broom: Broom, dependencies: SweepDependencies): Promise<{ ended: number; failed: number }> {
  const { db, batchSize } = dependencies;
  const total = { ended: 0, failed: 0 };
  let cursor: SweepCursor | undefined;
  for (;;) {
    const page = await broom.find(db, batchSize, cursor);
    const result = await endPage(
      broom,
      page.map((found) => found.leaseId),
      dependencies,
    );
    total.ended += result.ended;
    total.failed += result.failed;
    cursor = page.at(-1);
    if (page.length < batchSize) return total;
  }
}

/** Ends a page of leases at once, or, when one of them is refused, one by one, so that it does not stop the rest. */
async function endPage(
  broom: Broom,
  leaseIds: readonly string[],
  dependencies: SweepDependencies,
): Promise<{ ended: number; failed: number }> {
  if (leaseIds.length === 0) return { ended: 0, failed: 0 };
  try {
    const ended = await endInTransaction(broom, leaseIds, dependencies);
    return { ended: ended.length, failed: 0 };
  } catch (error) {
    if (kindOfSqlError(error) === 'unreachable') throw error;
    if (leaseIds.length === 1) {
      dependencies.logger.error({ err: error, lease: leaseIds[0] }, 'lease could not be swept');
      return { ended: 0, failed: 1 };
    }
  }
  const total = { ended: 0, failed: 0 };
  for (const leaseId of leaseIds) {
    const result = await endPage(broom, [leaseId], dependencies);
    total.ended += result.ended;
    total.failed += result.failed;
  }
  return total;
}

async function endInTransaction(
  broom: Broom,
  leaseIds: readonly string[],
  { db, actor, logger }: SweepDependencies,
): Promise<EndedLease[]> {
  const ended = await db.transaction((tx) => broom.end(tx, leaseIds, actor));
  for (const { id, companyId, runId, status } of ended) {
    logger.info({ company: companyId, run: runId, lease: id, status }, 'lease swept');
  }
  return ended;
}
