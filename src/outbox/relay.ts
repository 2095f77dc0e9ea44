import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '../db/connection.ts';
import { deleteOutboxJobs, setIdleInTransactionTimeout, lockFirstOutboxJobs } from '../db/statements/outbox.ts';
import type { OutboxJob } from '../db/statements/outbox.ts';
import type { Publisher } from '../queues/publisher.ts';
import { abortableSleep } from '../lib/abort.ts';
import { rootCauseMessage, toError } from '../lib/errors.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';
import { JobsSetAside } from './jobs-set-aside.ts';

/** What a relay works with. */
export interface OutboxRelayOptions {
  db: Db;
  /** Its attempts must fail in time: a transaction is open around them. */
  publisher: Pick<Publisher, 'publish'>;
  /** Resolves when the queue answers, and rejects in time when it does not. */
  pingQueue(): Promise<void>;
  /** How often the outbox is looked at when nobody calls {@link OutboxRelay.wake}. */
  pollIntervalMs: number;
  /** After how long without a word of it another relay may take over what it has locked. */
  silenceLimitMs: number;
  /** Told of each round that failed, because a store is away, say. It is repeated, for ever. */
  onTrouble(error: Error): void;
  /** Told of each job that could not be published although the queue answers. It is tried again, ever more rarely. */
  onUnpublishable(error: Error): void;
}

/** A job with the error that it could not be published for. */
interface FailedJob {
  job: OutboxJob;
  error: unknown;
}

/** Most jobs published in one transaction. */
const BATCH_SIZE = 200;

/** How long the last round may take at a close: what it has not committed by then is published again elsewhere. */
const LAST_ROUND_MS = 2_000;

/**
 * Publishes the jobs of the outbox and removes them in one transaction. One that dies in between leaves them to be
 * published again under the same ids: at least once, which the ids and the ledger make once (no-loss).
 */
export class OutboxRelay {
  readonly #options: OutboxRelayOptions;
  readonly #setAside = new JobsSetAside(() => performance.now());
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #wakeUp = new AbortController();
  #isQueueAway = false;

  /** Begins at once. */
  constructor(options: OutboxRelayOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Makes the relay look at the outbox now, or once more after the round that is under way. */
  wake(): void {
    this.#wakeUp.abort();
  }

  /** Begins no more rounds, and waits for the one under way, though not for ever. */
  async close(): Promise<void> {
    this.#stopping.abort();
    this.#wakeUp.abort();
    await Promise.race([this.#running, sleep(LAST_ROUND_MS, undefined, { ref: false })]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    while (!signal.aborted) {
      this.#wakeUp = new AbortController();
      try {
        const restMs = await this.#round();
        failures = 0;
        if (restMs > 0) await abortableSleep(restMs, this.#wakeUp.signal);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#options.onTrouble(toError(error));
        await abortableSleep(backoffDelay(failures, RECONNECT_BACKOFF), signal);
      }
    }
  }

  /** Publishes what can be published now. Returns for how long there is nothing more to do, in milliseconds. */
  async #round(): Promise<number> {
    // While the queue is known to be away, no transaction is opened only to find out that it still is.
    if (this.#isQueueAway) await this.#options.pingQueue();
    this.#isQueueAway = false;
    const setAside = this.#setAside.current();
    const { found, failed } = await this.#options.db.transaction(async (tx) => {
      await setIdleInTransactionTimeout(tx, this.#options.silenceLimitMs);
      const jobs = await lockFirstOutboxJobs(tx, BATCH_SIZE, setAside.ids);
      const failedJobs = await this.#publish(jobs);
      const unpublished = new Set(failedJobs.map(({ job }) => job));
      const published = jobs.filter((job) => !unpublished.has(job));
      if (published.length > 0) await deleteOutboxJobs(tx, idsOf(published));
      return { found: jobs.length, failed: failedJobs };
    });
    if (failed.length > 0) await this.#explain(failed);
    return found > 0 ? 0 : Math.min(this.#options.pollIntervalMs, setAside.msUntilNext);
  }

  /** All at once: no two of them are of the same run. */
  async #publish(jobs: readonly OutboxJob[]): Promise<FailedJob[]> {
    const attempts = jobs.map(async (job): Promise<FailedJob[]> => {
      try {
        await this.#options.publisher.publish(job.queue, job.jobId, job.payload);
        return [];
      } catch (error) {
        return [{ job, error }];
      }
    });
    return (await Promise.all(attempts)).flat();
  }

  /** Tells a queue that is away, which all jobs wait for, from jobs that it will not take, which only these wait for. */
  async #explain(failed: readonly FailedJob[]): Promise<void> {
    this.#isQueueAway = true;
    await this.#options.pingQueue();
    this.#isQueueAway = false;
    for (const { job, error } of failed) {
      const pauseMs = this.#setAside.add(job.id);
      this.#options.onUnpublishable(
        new Error(`${job.jobId} (row ${job.id}) is tried again in ${pauseMs} ms: ${rootCauseMessage(error)}`),
      );
    }
  }
}

const idsOf = (jobs: readonly OutboxJob[]) => jobs.map((job) => job.id);
