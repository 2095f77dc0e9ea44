import type { Logger } from 'pino';
import { abortableSleep, raceAbort, withTimeout } from '../../lib/abort.ts';
import type { LessorQueue } from '../../queues/queues.ts';
import { WorkerStoppingError } from '../database-outage.ts';

/** What the sweep's schedule works with. */
export interface SweepScheduleOptions {
  /** The queue `lease-sweep`, which is closed with the schedule. */
  queue: LessorQueue;
  /** The interval between sweeps, in milliseconds. */
  everyMs: number;
  /** Sweeps without the queue. */
  sweep(): Promise<unknown>;
  logger: Logger;
  /** The wall clock, by which BullMQ schedules, in milliseconds. */
  now: () => number;
  /** From 0 to 1: spreads replicas that were started together. */
  random: () => number;
}

/** The job scheduler: the same in every replica, so that together they sweep once an interval. */
const SCHEDULER = 'lease-sweep';

const JOB = { name: SCHEDULER, opts: { removeOnComplete: { count: 100 }, removeOnFail: { count: 1_000 } } };

/** A queue that does not answer within this time, or within one interval, is unreachable. */
const QUEUE_TIMEOUT_MS = 2_000;

/** The part of the interval by which checks are spread. */
const JITTER = 0.1;

/** A next sweep more intervals away than this, in the past or in the future, will not happen. */
const MAX_INTERVALS_AWAY = 2;

/**
 * Keeps leases swept once an interval, whatever happens to the queue (no-leak). BullMQ's job scheduler lives in the
 * queue, which can lose it, so each replica checks it once an interval:
 *
 *     start               upsert the scheduler
 *     scheduled           check that the scheduler is there and its next sweep is near; restore it otherwise
 *     queue unreachable   sweep directly, without the queue, and check again at the next interval
 */
export class SweepSchedule {
  readonly #options: SweepScheduleOptions;
  readonly #stopping = new AbortController();
  #check: Promise<void> | undefined;
  #running: Promise<void> = Promise.resolve();
  #isQueueUnreachable = false;

  constructor(options: SweepScheduleOptions) {
    this.#options = options;
  }

  /** Starts the checks. The scheduler gets this replica's interval. */
  start(): void {
    this.#running = this.#run();
  }

  /** Stops the checks and the direct sweep in flight, then closes the queue. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#options.queue.close();
  }

  async #run(): Promise<void> {
    const { everyMs, random } = this.#options;
    const { signal } = this.#stopping;
    let ensure = () => this.#upsert();
    while (!signal.aborted) {
      const nextCheckAt = performance.now() + everyMs * (1 - JITTER * random());
      if (await this.#isScheduled(ensure)) ensure = () => this.#restoreIfLost();
      else await this.#sweepDirectly();
      await abortableSleep(Math.max(0, nextCheckAt - performance.now()), signal);
    }
  }

  /** Whether the queue answered and has the scheduler, possibly restored just now. */
  async #isScheduled(ensure: () => Promise<void>): Promise<boolean> {
    const { logger, everyMs } = this.#options;
    const { signal } = this.#stopping;
    // A command waits for the queue indefinitely, so a check that does is shared with those that follow.
    this.#check ??= ensure().finally(() => (this.#check = undefined));
    const check = this.#check;
    try {
      await withTimeout(Math.min(QUEUE_TIMEOUT_MS, everyMs), (abandoned) =>
        raceAbort(check, AbortSignal.any([signal, abandoned])),
      );
      if (this.#isQueueUnreachable) {
        logger.info({ event: 'scheduled_sweeps_resumed' }, 'scheduled sweeps resumed');
      }
      this.#isQueueUnreachable = false;
    } catch (error) {
      if (!this.#isQueueUnreachable && !signal.aborted) {
        logger.warn({ event: 'scheduled_sweeps_interrupted', err: error }, 'scheduled sweeps interrupted');
      }
      this.#isQueueUnreachable = true;
    }
    return !this.#isQueueUnreachable;
  }

  async #sweepDirectly(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    try {
      await this.#options.sweep();
    } catch (error) {
      if (error instanceof WorkerStoppingError) return;
      this.#options.logger.error({ event: 'sweep_failed', err: error }, 'sweep failed');
    }
  }

  async #restoreIfLost(): Promise<void> {
    const { queue, everyMs, logger, now } = this.#options;
    const scheduler = await queue.getJobScheduler(SCHEDULER);
    if (scheduler?.next === undefined || scheduler.next === null) {
      await this.#upsert();
      logger.warn({ event: 'sweep_schedule_restored' }, 'sweep schedule restored');
      return;
    }
    // By the scheduler's own interval: while the setting changes, replicas with the old value keep the new schedule.
    const intervalsAway = (scheduler.next - now()) / (scheduler.every ?? everyMs);
    if (Math.abs(intervalsAway) <= MAX_INTERVALS_AWAY) return;
    // An upsert keeps a next date in the future, so the scheduler has to go first; one in the past is recalculated.
    if (intervalsAway > 0) await queue.removeJobScheduler(SCHEDULER);
    await this.#upsert();
    logger.debug({ event: 'sweep_schedule_corrected', next: scheduler.next }, 'sweep schedule corrected');
  }

  /** The first sweep is due immediately. An existing scheduler keeps the date of its next one. */
  async #upsert(): Promise<void> {
    await this.#options.queue.upsertJobScheduler(SCHEDULER, { every: this.#options.everyMs }, JOB);
  }
}
