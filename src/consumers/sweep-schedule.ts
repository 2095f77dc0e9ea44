import type { Logger } from 'pino';
import type { LessorQueue } from '../queues/queues.ts';
import { abortableSleep } from '../lib/abort.ts';
import { withTimeout } from '../lib/abort.ts';
import { raceAbort } from '../lib/abort.ts';
import { WorkerStoppingError } from './database-outage.ts';

/** What the sweep's schedule works with. */
export interface SweepScheduleOptions {
  /** The queue `lease-sweep`, which is closed with the schedule. */
  queue: LessorQueue;
  /** How often there is to be a sweep, in milliseconds. */
  everyMs: number;
  /** A sweep without the queue. */
  sweep(): Promise<unknown>;
  logger: Logger;
  /** The calendar by which BullMQ schedules, in milliseconds. */
  now: () => number;
  /** From 0 to 1: spreads what replicas do that were started together. */
  random: () => number;
}

/** The job scheduler: the same in every replica, so that together they sweep once an interval. */
const SCHEDULER = 'lease-sweep';

const JOB = { name: SCHEDULER, opts: { removeOnComplete: { count: 100 }, removeOnFail: { count: 1_000 } } };

/** A queue that does not answer within this time, or within one interval, is away. */
const QUEUE_ANSWERS_WITHIN_MS = 2_000;

/** The part of the interval by which looks are spread. */
const JITTER = 0.1;

/** A next sweep further away than so many intervals, in the past or in the future, is one that will not come. */
const LATEST_INTERVALS = 2;

/**
 * Sees to it that leases are swept once an interval, whatever becomes of the queue (no-leak). The schedule lives in the
 * queue, which can lose it; so each replica looks after it once an interval, and sweeps by itself while the queue is
 * away.
 */
export class SweepSchedule {
  readonly #options: SweepScheduleOptions;
  readonly #stopping = new AbortController();
  #looking: Promise<void> | undefined;
  #running: Promise<void> = Promise.resolve();
  #isAway = false;

  constructor(options: SweepScheduleOptions) {
    this.#options = options;
  }

  /** From now on leases are swept. What is in the queue follows this replica's interval. */
  start(): void {
    this.#running = this.#run();
  }

  /** Ends the looks, and with them what is under way; then closes the queue. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#options.queue.close();
  }

  async #run(): Promise<void> {
    const { everyMs, random } = this.#options;
    const { signal } = this.#stopping;
    let putBack = () => this.#put();
    while (!signal.aborted) {
      const nextLookAt = performance.now() + everyMs * (1 - JITTER * random());
      if (await this.#isInQueue(putBack)) putBack = () => this.#putBackIfGone();
      else await this.#sweepDirectly();
      await abortableSleep(Math.max(0, nextLookAt - performance.now()), signal);
    }
  }

  /** Whether the queue has the schedule, also when it has it again only now. */
  async #isInQueue(putBack: () => Promise<void>): Promise<boolean> {
    const { logger, everyMs } = this.#options;
    const { signal } = this.#stopping;
    // Commands wait for the queue however long it takes: a look that does is the only one.
    this.#looking ??= putBack().finally(() => (this.#looking = undefined));
    const looking = this.#looking;
    try {
      await withTimeout(Math.min(QUEUE_ANSWERS_WITHIN_MS, everyMs), (abandoned) =>
        raceAbort(looking, AbortSignal.any([signal, abandoned])),
      );
      if (this.#isAway) logger.info('the queue is back: sweeps come of their schedule again');
      this.#isAway = false;
    } catch (error) {
      if (!this.#isAway && !signal.aborted) {
        logger.warn({ err: error }, 'the queue cannot be used: this replica sweeps by itself');
      }
      this.#isAway = true;
    }
    return !this.#isAway;
  }

  async #sweepDirectly(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    try {
      await this.#options.sweep();
    } catch (error) {
      if (error instanceof WorkerStoppingError) return;
      this.#options.logger.error({ err: error }, 'sweep failed: the next one starts over');
    }
  }

  async #putBackIfGone(): Promise<void> {
    const { queue, everyMs, logger, now } = this.#options;
    const scheduler = await queue.getJobScheduler(SCHEDULER);
    if (scheduler?.next === undefined || scheduler.next === null) {
      await this.#put();
      logger.warn('the queue had lost the schedule of the sweep: it is put back');
      return;
    }
    // By the interval in the queue: during a change of the setting, replicas with the old one leave the new one alone.
    const intervalsAway = (scheduler.next - now()) / (scheduler.every ?? everyMs);
    if (Math.abs(intervalsAway) <= LATEST_INTERVALS) return;
    // A date in the future stays when a scheduler is changed, and one in the past is left to what is due of it.
    if (intervalsAway > 0) await queue.removeJobScheduler(SCHEDULER);
    await this.#put();
    logger.debug({ next: scheduler.next }, 'no sweep came of its schedule: it is put back');
  }

  /** The first sweep is due at once. A schedule that stands already keeps the date of its next one. */
  async #put(): Promise<void> {
    await this.#options.queue.upsertJobScheduler(SCHEDULER, { every: this.#options.everyMs }, JOB);
  }
}
