import type { Logger } from 'pino';
import type { Db } from '../db/connection.ts';
import { findOldRuns, removeOldRuns } from '../db/statements/runs.ts';
import type { OldRun } from '../db/statements/runs.ts';
import { workOnPage } from './isolated-page.ts';
import type { PageResult } from './isolated-page.ts';
import { PageRound } from './page-round.ts';

/** What the retention works with. */
export interface RunRetentionDependencies {
  db: Db;
  logger: Logger;
  /** Most runs looked at in one statement and removed in one transaction. */
  batchSize: number;
  /** How long an ended run is kept that has no lease. */
  retentionSeconds: number;
}

/**
 * Pages of old runs that one sweep looks at: with pages of 500 and a sweep every 15 seconds, all of eleven million old
 * runs once a day, for 2,000 look-ups by index a sweep.
 */
const PAGES_PER_SWEEP = 4;

/** Removes runs that ended before the retention and have no lease, a few pages a sweep. */
export class RunRetention {
  readonly #dependencies: RunRetentionDependencies;
  readonly #round = new PageRound<OldRun>();

  constructor(dependencies: RunRetentionDependencies) {
    this.#dependencies = dependencies;
  }

  /** Goes on where the last sweep stopped; a round ends at its end, so that no sweep looks at a run twice. */
  async sweep(): Promise<PageResult> {
    const total = { done: 0, failed: 0 };
    for (let page = 0; page < PAGES_PER_SWEEP; page += 1) {
      const result = await this.#removePage();
      total.done += result.done;
      total.failed += result.failed;
      if (this.#round.isComplete) break;
    }
    return total;
  }

  async #removePage(): Promise<PageResult> {
    const { db, logger, batchSize, retentionSeconds } = this.#dependencies;
    const page = await this.#round.next(batchSize, (limit, after) => findOldRuns(db, retentionSeconds, limit, after));
    const removable = page.filter((run) => run.removable).map((run) => run.runId);
    return workOnPage(removable, {
      on: async (runIds) => {
        const removed = await db.transaction((tx) => removeOldRuns(tx, runIds, retentionSeconds));
        return removed.length;
      },
      onFailed: (run, error) => logger.error({ err: error, run }, 'run could not be removed after its retention'),
    });
  }
}
