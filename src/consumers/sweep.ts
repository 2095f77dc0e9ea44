import { LostReleases } from './lost-releases.ts';
import type { LostReleasesDependencies } from './lost-releases.ts';
import { sweepLeases } from './lease-sweep.ts';
import type { LeaseSweepDependencies, LeaseSweepResult } from './lease-sweep.ts';
import { RunRetention } from './run-retention.ts';
import type { RunRetentionDependencies } from './run-retention.ts';

/** What a sweep works with. */
export type SweepDependencies = LeaseSweepDependencies & LostReleasesDependencies & RunRetentionDependencies;

/** What a sweep did. */
export interface SweepResult extends LeaseSweepResult {
  /** Leases that wait for their cleanup, and whose job was published again. */
  requeued: number;
  /** Runs that ended before the retention and had no lease. */
  removed: number;
  /** Leases that could not be ended and runs that could not be removed; each is in the log with its error. */
  failed: number;
}

/**
 * Puts right what no message did (no-leak): a few bounded queries, each with an index of its own. It remembers between
 * sweeps how far it has looked, where there can be more than one sweep should look at.
 */
export class Sweep {
  readonly #dependencies: SweepDependencies;
  readonly #lostReleases: LostReleases;
  readonly #runRetention: RunRetention;

  constructor(dependencies: SweepDependencies) {
    this.#dependencies = dependencies;
    this.#lostReleases = new LostReleases(dependencies);
    this.#runRetention = new RunRetention(dependencies);
  }

  async run(): Promise<SweepResult> {
    const leases = await sweepLeases(this.#dependencies);
    const runs = await this.#runRetention.sweep();
    const requeued = await this.#lostReleases.sweep();
    const result = { ...leases, requeued, removed: runs.done, failed: leases.failed + runs.failed };
    const hasFound = Object.values(result).some((count) => count > 0);
    if (hasFound) this.#dependencies.logger.info(result, 'sweep found something to do');
    return result;
  }
}
