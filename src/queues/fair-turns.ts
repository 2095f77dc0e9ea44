/** Jobs of a company that are served in one turn: what another company's single job may have to wait behind. */
export const JOBS_PER_TURN = 32;

/** BullMQ's largest priority. Whatever comes after two million turns shares the last one, first come, first served. */
export const LAST_TURN = 2 ** 21 - 1;

/** A job's place among those that wait. */
export interface Place {
  /** BullMQ's: 0 is served first, then 1, 2, … Those of the same one are served in the order in which they came. */
  readonly priority: number;
  /** To be called once it is known whether the job is in the queue. */
  readonly settle: (isPublished: boolean) => void;
}

interface Standing {
  /** The turn of the company's last job. */
  turn: number;
  jobsInTurn: number;
  /** Jobs that have a place, and are not known to be in the queue yet. */
  underWay: number;
  settledAt: number;
  /** Of those that are in the queue, the last to get its place. */
  lastJob: { jobId: string; number: number } | undefined;
  /** When that was last seen to wait, by the caller's clock. */
  seenWaitingAt: number;
}

/**
 * Lets companies take turns in a queue (start-time fair queuing): a company's jobs are spread over turns, beginning with
 * the one that is being served, so that another company's jobs come in between however many there are.
 *
 * Only the companies are remembered that are ahead of what is served, or in the midst of that turn.
 */
export class FairTurns {
  readonly #standings = new Map<string, Standing>();
  #servedTurn = 0;
  #moments = 0;

  /** Companies that are remembered. */
  get size(): number {
    return this.#standings.size;
  }

  /** The place of a company's next job. Places of a company only ever move back, unless none of its jobs waits. */
  take(companyId: string, jobId: string): Place {
    const standing = this.#standingOf(companyId);
    if (standing.turn < this.#servedTurn) {
      standing.turn = this.#servedTurn;
      standing.jobsInTurn = 0;
    } else if (standing.jobsInTurn === JOBS_PER_TURN) {
      standing.turn = Math.min(standing.turn + 1, LAST_TURN);
      standing.jobsInTurn = 0;
    }
    standing.jobsInTurn += 1;
    standing.underWay += 1;
    const number = this.#nextMoment();
    return {
      priority: standing.turn,
      settle: (isPublished) => {
        standing.underWay -= 1;
        standing.settledAt = this.#nextMoment();
        if (isPublished && number > (standing.lastJob?.number ?? 0)) standing.lastJob = { jobId, number };
      },
    };
  }

  /**
   * To be called before the queue is looked at. What it returns is to be told of the turn that was found to be served,
   * undefined when nothing waits: then everybody begins anew.
   */
  beginLook(): (servedTurn: number | undefined) => void {
    const begunAt = this.#nextMoment();
    return (servedTurn) => {
      this.#servedTurn = servedTurn ?? 0;
      for (const [companyId, standing] of this.#standings) {
        // A job that came while the queue was looked at may have been overlooked.
        const isOver = servedTurn === undefined ? standing.settledAt < begunAt : standing.turn < servedTurn;
        if (isOver && standing.underWay === 0) this.#standings.delete(companyId);
      }
    };
  }

  /**
   * The job to look for before the company's next one gets a place: its turn is to come only if that job still waits.
   * Where it does not, the queue was empty in between, and nobody looked. Undefined when that is out of the question, or
   * the job was seen to wait after `recently`.
   */
  jobInDoubt(companyId: string, recently: number): string | undefined {
    const standing = this.#standings.get(companyId);
    if (standing === undefined || standing.turn <= this.#servedTurn || standing.underWay > 0) return undefined;
    return standing.seenWaitingAt > recently ? undefined : standing.lastJob?.jobId;
  }

  /** Tells what became of a {@link jobInDoubt}. If none came after it, its company has nothing that waits. */
  settleDoubt(companyId: string, jobId: string, isWaiting: boolean, now: number): void {
    const standing = this.#standings.get(companyId);
    if (standing === undefined || standing.lastJob?.jobId !== jobId || standing.underWay > 0) return;
    if (isWaiting) standing.seenWaitingAt = now;
    else this.#standings.delete(companyId);
  }

  #standingOf(companyId: string): Standing {
    const known = this.#standings.get(companyId);
    if (known !== undefined) return known;
    const standing: Standing = {
      turn: this.#servedTurn,
      jobsInTurn: 0,
      underWay: 0,
      settledAt: 0,
      lastJob: undefined,
      seenWaitingAt: Number.NEGATIVE_INFINITY,
    };
    this.#standings.set(companyId, standing);
    return standing;
  }

  #nextMoment(): number {
    this.#moments += 1;
    return this.#moments;
  }
}
