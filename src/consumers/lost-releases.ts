import type { Logger } from 'pino';
import type { LeaseRelease } from '../contracts/index.ts';
import type { Db } from '../db/connection.ts';
import { findUncleanedLeases } from '../db/statements/find-leases-to-sweep.ts';
import type { UncleanedLease } from '../db/statements/find-leases-to-sweep.ts';
import { PageRound } from './page-round.ts';

/** The jobs of `lease-release`, as far as the sweep needs them. */
export interface ReleaseJobs {
  /** Publishes those of the jobs that are not in the queue, and returns how many. Rejects while the queue is away. */
  restore(releases: readonly LeaseRelease[]): Promise<number>;
}

/** What looking for lost releases works with. */
export interface LostReleasesDependencies {
  db: Db;
  logger: Logger;
  releaseJobs: ReleaseJobs;
  /** Most leases looked after by one sweep. */
  batchSize: number;
}

/**
 * How long a lease waits for its cleanup before its job is looked for, in seconds: whoever wrote the row publishes the
 * job right after, and a job is served within moments. Sooner, the sweep would ask the queue for jobs of no interest.
 */
const CLEANUP_LIMIT_SECONDS = 30;

/** Brings back the jobs of leases that wait for their cleanup, where the queue has lost them. */
export class LostReleases {
  readonly #dependencies: LostReleasesDependencies;
  readonly #round = new PageRound<UncleanedLease>();

  constructor(dependencies: LostReleasesDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Looks at the next page of leases, and returns for how many a job was published again. The queue can be away while
   * Postgres is not: the leases of this page have their turn in the next round then.
   */
  async sweep(): Promise<number> {
    const { db, logger, releaseJobs, batchSize } = this.#dependencies;
    const page = await this.#round.next(batchSize, (limit, after) =>
      findUncleanedLeases(db, CLEANUP_LIMIT_SECONDS, limit, after),
    );
    if (page.length === 0) return 0;
    try {
      return await releaseJobs.restore(page.map(({ companyId, leaseId }) => ({ version: 1, companyId, leaseId })));
    } catch (error) {
      logger.warn(
        { err: error, leases: page.length },
        'jobs of releases could not be looked for in the queue: a later sweep does',
      );
      return 0;
    }
  }
}
