import { findUncleanedLeases } from '../../db/statements/find-leases-to-sweep.ts';
import type { UncleanedLease } from '../../db/statements/find-leases-to-sweep.ts';
import { findOldRuns, removeOldRuns } from '../../db/statements/runs.ts';
import type { OldRun } from '../../db/statements/runs.ts';
import type { ReleaseJobs } from '../../queues/release-jobs.ts';
import { sweepLeases } from './leases.ts';
import type { LeaseSweepDependencies, LeaseSweepResult } from './leases.ts';
import { RotatingCursor, processPage } from './pages.ts';
import type { PageResult } from './pages.ts';

/** What a sweep works with. */
export interface SweepDependencies extends LeaseSweepDependencies {
  releaseJobs: Pick<ReleaseJobs, 'restore'>;
  /** How long an ended run without a lease is kept. */
  retentionSeconds: number;
}

/** What a sweep did. */
export interface SweepResult extends LeaseSweepResult {
  /** Leases waiting for their cleanup whose job was published again. */
  requeued: number;
  /** Runs without a lease that ended before the retention. */
  removed: number;
  /** Leases that could not be ended and runs that could not be removed; each is in the log with its error. */
  failed: number;
}

/**
 * Repairs what no message did (no-leak). A sweep applies its rules in this order:
 *
 *     rule          finds                                           does                         per sweep
 *     orphaned      a live lease of an ended run                    ends it as the run ended     all pages
 *     expired       a lease past `expires_at`                       expires it                   all pages
 *     abandoned     a pending lease untouched for 3 minutes         fails it                     all pages
 *     retention     a run that ended long ago, without a lease      removes it                   4 pages
 *     lost release  a lease that waits for its cleanup for 30 s     publishes its job again, if  1 page
 *                                                                   the queue has lost it
 *
 * The first three (`leases.ts`) find only what they change. The last two also read rows that stay as they are, so a
 * rotating cursor bounds what they read: a sweep costs the same however many rows there are.
 *
 * Any number of replicas may sweep concurrently: each skips rows that another one has locked. A row that Postgres
 * rejects is logged and counted as failed, and does not stop the others (isolated).
 */
export class Sweep {
  readonly #dependencies: SweepDependencies;
  readonly #runRetention: RunRetention;
  readonly #lostReleases: LostReleases;

  constructor(dependencies: SweepDependencies) {
    this.#dependencies = dependencies;
    this.#runRetention = new RunRetention(dependencies);
    this.#lostReleases = new LostReleases(dependencies);
  }

  async run(): Promise<SweepResult> {
    const leases = await sweepLeases(this.#dependencies);
    const runs = await this.#runRetention.sweep();
    const requeued = await this.#lostReleases.sweep();
    const result = { ...leases, requeued, removed: runs.done, failed: leases.failed + runs.failed };
    const isIdle = Object.values(result).every((count) => count === 0);
    if (!isIdle) this.#dependencies.logger.info({ event: 'sweep_completed', ...result }, 'sweep completed');
    return result;
  }
}

/**
 * Pages of old runs read by one sweep. With pages of 500 and a sweep every 15 seconds, a rotation over eleven million
 * runs takes one day, for 2,000 index lookups a sweep.
 */
const RETENTION_PAGES_PER_SWEEP = 4;

/** Removes runs that ended before the retention and have no lease, a few pages a sweep. */
export class RunRetention {
  readonly #dependencies: Pick<SweepDependencies, 'db' | 'logger' | 'batchSize' | 'retentionSeconds'>;
  readonly #cursor = new RotatingCursor<OldRun>();

  constructor(dependencies: Pick<SweepDependencies, 'db' | 'logger' | 'batchSize' | 'retentionSeconds'>) {
    this.#dependencies = dependencies;
  }

  /** Continues where the last sweep stopped. It stops at the end of a rotation, so that it reads no run twice. */
  async sweep(): Promise<PageResult> {
    const total = { done: 0, failed: 0 };
    for (let page = 0; page < RETENTION_PAGES_PER_SWEEP; page += 1) {
      const result = await this.#removePage();
      total.done += result.done;
      total.failed += result.failed;
      if (this.#cursor.isAtStart) break;
    }
    return total;
  }

  async #removePage(): Promise<PageResult> {
    const { db, logger, batchSize, retentionSeconds } = this.#dependencies;
    const page = await this.#cursor.next(batchSize, (limit, after) => findOldRuns(db, retentionSeconds, limit, after));
    const removable = page.filter((run) => run.removable).map((run) => run.runId);
    return processPage(removable, {
      apply: async (runIds) => {
        const removed = await db.transaction((tx) => removeOldRuns(tx, runIds, retentionSeconds));
        return removed.length;
      },
      onFailed: (run, error) => logger.error({ event: 'run_removal_failed', err: error, run }, 'run removal failed'),
    });
  }
}

/**
 * How long a lease waits for its cleanup before its job is looked up, in seconds. Whoever commits such a lease publishes
 * its job right after, and the job is processed within seconds: sooner, most lookups would find it in flight.
 */
const CLEANUP_GRACE_SECONDS = 30;

/** Publishes the jobs of leases that wait for their cleanup again, where the queue has lost them. */
export class LostReleases {
  readonly #dependencies: Pick<SweepDependencies, 'db' | 'logger' | 'batchSize' | 'releaseJobs'>;
  readonly #cursor = new RotatingCursor<UncleanedLease>();

  constructor(dependencies: Pick<SweepDependencies, 'db' | 'logger' | 'batchSize' | 'releaseJobs'>) {
    this.#dependencies = dependencies;
  }

  /**
   * Checks the next page of leases, and returns how many jobs were published. While the queue is unreachable the page is
   * skipped until the next rotation.
   */
  async sweep(): Promise<number> {
    const { db, logger, releaseJobs, batchSize } = this.#dependencies;
    const page = await this.#cursor.next(batchSize, (limit, after) =>
      findUncleanedLeases(db, CLEANUP_GRACE_SECONDS, limit, after),
    );
    if (page.length === 0) return 0;
    try {
      return await releaseJobs.restore(page.map(({ companyId, leaseId }) => ({ version: 1, companyId, leaseId })));
    } catch (error) {
      logger.warn({ event: 'release_jobs_unrestored', err: error, leases: page.length }, 'release jobs not restored');
      return 0;
    }
  }
}
