import { FairTurns } from './fair-turns.ts';
import type { Place } from './fair-turns.ts';
import type { LessorQueue } from './queues.ts';

/** After how long the queue is looked at again, beside the publishing. */
const LOOK_AGAIN_MS = 100;

/** What is known of a queue is too old to publish by after this long: it is looked at first. */
const TOO_OLD_MS = 1_000;

const WAITING_STATES: readonly string[] = ['waiting', 'prioritized'];

/**
 * Gives jobs their places in one queue. While jobs are published, the queue is looked at ten times a second at most; a
 * job that comes after a rest of a second waits for a look, which is one command where there is no backlog.
 */
export class FairQueue {
  readonly #queue: LessorQueue;
  readonly #now: () => number;
  readonly #turns = new FairTurns();
  #lastLook: { begunAt: number; done: Promise<void> } | undefined;
  #knownSince = Number.NEGATIVE_INFINITY;

  /** @param now in milliseconds, and never set back */
  constructor(queue: LessorQueue, now: () => number = () => performance.now()) {
    this.#queue = queue;
    this.#now = now;
  }

  /** Rejects when it has to look at the queue, and cannot. */
  async place(companyId: string, jobId: string): Promise<Place> {
    const age = this.#now() - this.#knownSince;
    if (age >= TOO_OLD_MS) await this.#look();
    // Where it fails, what is known grows too old, and somebody waits for the next one.
    else if (age >= LOOK_AGAIN_MS) this.#look().catch(() => undefined);
    const inDoubt = this.#turns.jobInDoubt(companyId, this.#now() - TOO_OLD_MS);
    if (inDoubt !== undefined) await this.#lookFor(companyId, inDoubt);
    return this.#turns.take(companyId, jobId);
  }

  /** One look at a time, unless it takes long: then its connection may be lost, and a new one is not. */
  #look(): Promise<void> {
    const begunAt = this.#now();
    if (this.#lastLook === undefined || begunAt - this.#lastLook.begunAt >= TOO_OLD_MS) {
      const look = { begunAt, done: this.#lookNow(begunAt) };
      this.#lastLook = look;
      const end = () => {
        if (this.#lastLook === look) this.#lastLook = undefined;
      };
      look.done.then(end, end);
    }
    return this.#lastLook.done;
  }

  async #lookNow(begunAt: number): Promise<void> {
    const tell = this.#turns.beginLook();
    const servedTurn = await readServedTurn(this.#queue);
    this.#knownSince = begunAt;
    tell(servedTurn);
  }

  async #lookFor(companyId: string, jobId: string): Promise<void> {
    const state = await this.#queue.getJobState(jobId);
    this.#turns.settleDoubt(companyId, jobId, WAITING_STATES.includes(state), this.#now());
  }
}

/** The turn that is being served: the lowest priority that waits. Undefined when nothing does. */
async function readServedTurn(queue: LessorQueue): Promise<number | undefined> {
  const [[plain] = [], [first] = []] = await queue.getBackend().getRanges(['wait', 'prioritized'], 0, 0, true);
  if (first === undefined) return plain === undefined ? undefined : 0;
  const job = await queue.getJob(first);
  // It was done, and removed, in between.
  if (job === undefined) return readServedTurn(queue);
  // Jobs without a priority are those of turn 0 before turn 1 has begun; later they come from clients that set none.
  return plain !== undefined && job.priority === 1 ? 0 : job.priority;
}
