import { UnrecoverableError } from 'bullmq';
import { z } from 'zod';

/** What isolating a job needs of it. */
export interface SuspectJob {
  readonly id?: string | undefined;
  /** How often it was taken over from a replica that died at work on it. */
  readonly stalledCounter: number;
  readonly progress: unknown;
  updateProgress(progress: object): Promise<void>;
}

/**
 * Crashes after which a job is blamed. More than one, since the replica may as well have been killed by someone else at
 * just that moment; and it is told apart from its neighbours only while each is tried alone.
 */
const MAXIMUM_CRASHES = 5;

/** A job that makes its process crash does so at once: one that takes longer does not hold up the other suspects. */
const LONGEST_TURN_MS = 1_000;

/** The job made replica after replica die: it is failed without being tried once more. */
export class PoisonousJobError extends UnrecoverableError {
  constructor(crashes: number) {
    super(
      `poisonous: ${crashes} replicas in a row died at work on this job while it was tried alone; ` +
        'find out why before retrying it',
    );
  }
}

const suspicionSchema = z.object({ triedAlone: z.int().nonnegative() });

/**
 * Finds the job that makes replicas crash. Whatever was at work in a replica that died is suspected, and tried again
 * alone, one suspect after the other, each attempt being noted before it begins. An innocent job comes through; the
 * guilty one is the only one whose attempts add up, and it ends in the failed set (isolated).
 */
export class PoisonIsolation {
  readonly #sleep: (milliseconds: number) => Promise<void>;
  #lastTurn: Promise<unknown> = Promise.resolve();

  /** @param sleep waits without keeping the process alive */
  constructor(sleep: (milliseconds: number) => Promise<void>) {
    this.#sleep = sleep;
  }

  isSuspect(job: SuspectJob): boolean {
    return job.stalledCounter > 0;
  }

  /**
   * Carries out an attempt at a suspect when it is its turn.
   * @throws {PoisonousJobError} when too many attempts before did not come to an end
   */
  async tryAlone<Result>(job: SuspectJob, attempt: () => Promise<Result>): Promise<Result> {
    const turn = this.#lastTurn.then(() => this.#attempt(job, attempt));
    this.#lastTurn = Promise.race([
      turn.catch(() => undefined),
      this.#lastTurn.then(() => this.#sleep(LONGEST_TURN_MS)),
    ]);
    return turn;
  }

  async #attempt<Result>(job: SuspectJob, attempt: () => Promise<Result>): Promise<Result> {
    const crashes = suspicionSchema.safeParse(job.progress).data?.triedAlone ?? 0;
    if (crashes >= MAXIMUM_CRASHES) {
      // Whoever retries it by hand has done something about it, and gives it as many attempts again.
      await note(job, 0);
      throw new PoisonousJobError(crashes);
    }
    await note(job, crashes + 1);
    try {
      return await attempt();
    } finally {
      await note(job, 0);
    }
  }
}

async function note(job: SuspectJob, triedAlone: number): Promise<void> {
  await job.updateProgress({ triedAlone });
}
