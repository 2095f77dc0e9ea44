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
 * Takeovers after which a job is suspected. Most replicas that die were killed, and took hundreds of jobs with them:
 * tried one by one, those could retryWhileUnreachable the replica that took them over, if that is killed too.
 */
const TAKEOVERS_OF_A_SUSPECT = 2;

/**
 * Crashes under the job alone after which it is blamed. More than one, since the replica may as well have been killed by
 * someone else at just that moment.
 */
const MAXIMUM_CRASHES = 3;

/**
 * A job that makes its process crash does so at once. One that has come through this long, because Postgres is away,
 * say, is not blamed for what happens later, and does not hold up the other suspects.
 */
const LONGEST_TURN_MS = 1_000;

/** The job made replica after replica die: it is failed without being tried once more. */
export class PoisonousJobError extends UnrecoverableError {
  constructor(crashes: number) {
    super(
      `poisonous: ${crashes} replicas in a row died at work on this job when it was tried alone; ` +
        'find out why before retrying it',
    );
  }
}

const suspicionSchema = z.object({ triedAlone: z.int().nonnegative() });

/**
 * Finds the job that makes replicas crash. Whatever was at work in two replicas that died is suspected, and tried alone
 * from then on, one suspect after the other, each attempt being noted before it begins. An innocent job comes through;
 * the guilty one is the only one whose attempts add up, and it ends in the failed set (isolated).
 */
export class PoisonIsolation {
  readonly #sleep: (milliseconds: number) => Promise<void>;
  #lastTurn: Promise<unknown> = Promise.resolve();

  /** @param sleep waits without keeping the process alive */
  constructor(sleep: (milliseconds: number) => Promise<void>) {
    this.#sleep = sleep;
  }

  isSuspect(job: SuspectJob): boolean {
    return job.stalledCounter >= TAKEOVERS_OF_A_SUSPECT;
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
    let cleared: Promise<void> | undefined;
    const clear = () => (cleared ??= note(job, 0));
    // If that fails, the end of the attempt does too.
    this.#sleep(LONGEST_TURN_MS)
      .then(clear)
      .catch(() => undefined);
    try {
      return await attempt();
    } finally {
      await clear();
    }
  }
}

async function note(job: SuspectJob, triedAlone: number): Promise<void> {
  await job.updateProgress({ triedAlone });
}
