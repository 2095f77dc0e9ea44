import { UnrecoverableError } from 'bullmq';
import { z } from 'zod';

/** What the quarantine needs of a job. */
export interface QuarantinedJob {
  /** How often the job was recovered from a replica that crashed while processing it. */
  readonly stalledCounter: number;
  readonly progress: unknown;
  updateProgress(progress: object): Promise<void>;
}

/**
 * Stalled-job recoveries after which a job is quarantined. Most crashed replicas were killed, and lost hundreds of
 * innocent jobs: with 1, all of those would be attempted one at a time.
 */
const RECOVERIES_BEFORE_QUARANTINE = 2;

/**
 * Crashes during isolated attempts after which the job is the poison pill. Each of them may be a coincidence, such as a
 * replica killed at that moment; three in a row are not.
 */
const MAX_ISOLATED_CRASHES = 3;

/**
 * A poison pill crashes its process within this time. An attempt that takes longer, as while Postgres is unreachable, is
 * cleared of later crashes and lets the next quarantined job begin.
 */
const CRASH_WINDOW_MS = 1_000;

/** The job crashed replica after replica: it fails without another attempt. */
export class PoisonPillError extends UnrecoverableError {
  constructor(crashes: number) {
    super(
      `poison pill: ${crashes} replicas in a row crashed during an isolated attempt at this job; ` +
        'find the cause before retrying it',
    );
  }
}

const progressSchema = z.object({ isolatedCrashes: z.int().nonnegative() });

/**
 * Finds the job that crashes replicas, so that its neighbours survive (isolated).
 *
 *     not quarantined   recovered fewer than 2 times: processed in batches with others
 *     quarantined       recovered 2 times or more: attempted in isolation, one quarantined job at a time
 *       attempt begins    the job's progress counts a crash, before the attempt can cause one
 *       attempt ends, or its crash window of 1 s passes: the count is reset to 0
 *       process crashes   the count stays, and the next replica finds it
 *     poison pill       3 crashes counted: the job fails with {@link PoisonPillError}
 *
 * Innocent jobs end their attempts, so only the poison pill accumulates crashes. A failed poison pill that an operator
 * retries starts again at 0.
 */
export class PoisonQuarantine {
  readonly #sleep: (milliseconds: number) => Promise<void>;
  /** Resolves when the next quarantined job may begin. */
  #turn: Promise<unknown> = Promise.resolve();

  /** @param sleep waits without keeping the process alive */
  constructor(sleep: (milliseconds: number) => Promise<void>) {
    this.#sleep = sleep;
  }

  isQuarantined(job: QuarantinedJob): boolean {
    return job.stalledCounter >= RECOVERIES_BEFORE_QUARANTINE;
  }

  /**
   * Runs an attempt at a quarantined job once those before it have ended or passed their crash window.
   * @throws {PoisonPillError} when the job has crashed too many replicas
   */
  async runIsolated<Result>(job: QuarantinedJob, attempt: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(() => this.#attempt(job, attempt));
    this.#turn = Promise.race([result.catch(() => undefined), this.#turn.then(() => this.#sleep(CRASH_WINDOW_MS))]);
    return result;
  }

  async #attempt<Result>(job: QuarantinedJob, attempt: () => Promise<Result>): Promise<Result> {
    const crashes = progressSchema.safeParse(job.progress).data?.isolatedCrashes ?? 0;
    if (crashes >= MAX_ISOLATED_CRASHES) {
      await countCrashes(job, 0);
      throw new PoisonPillError(crashes);
    }
    await countCrashes(job, crashes + 1);
    let cleared: Promise<void> | undefined;
    const clear = () => (cleared ??= countCrashes(job, 0));
    // The attempt awaits the same promise and fails with its error.
    this.#sleep(CRASH_WINDOW_MS)
      .then(clear)
      .catch(() => undefined);
    try {
      return await attempt();
    } finally {
      await clear();
    }
  }
}

async function countCrashes(job: QuarantinedJob, isolatedCrashes: number): Promise<void> {
  await job.updateProgress({ isolatedCrashes });
}
