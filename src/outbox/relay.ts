import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '../db/connection.ts';
import { deleteOutboxJobs, setIdleInTransactionTimeout, lockFirstOutboxJobs } from '../db/statements/outbox.ts';
import type { OutboxJob } from '../db/statements/outbox.ts';
import type { Publisher } from '../queues/publisher.ts';
import { abortableSleep } from '../lib/abort.ts';
import { rootCauseMessage, toError } from '../lib/errors.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';

/** Dependencies and settings of a relay. */
export interface OutboxRelayOptions {
  db: Db;
  /** Its attempts must time out: a transaction is open during them. */
  publisher: Pick<Publisher, 'publish'>;
  /** Resolves when the queue answers, and rejects in time when it does not. */
  pingQueue(): Promise<void>;
  /** Interval of rounds that nobody requests with {@link OutboxRelay.wake}. */
  pollIntervalMs: number;
  /** The idle-in-transaction timeout: after this time another relay gets the jobs that a hung one has locked. */
  idleInTransactionTimeoutMs: number;
  /** Called with the error of each failed round, such as an unreachable store. Rounds are retried indefinitely. */
  onError(error: Error): void;
  /** Called for each job that cannot be published although the queue answers. It is retried with backoff. */
  onUnpublishable(error: Error): void;
}

/** A job that was not published, and why. */
interface FailedJob {
  job: OutboxJob;
  error: unknown;
}

/** Most jobs published in one transaction. */
const BATCH_SIZE = 200;

/** How long closing waits for the round in flight. What it has not committed by then is published again by another relay. */
const CLOSE_TIMEOUT_MS = 2_000;

/** A job that fails alone is retried often enough for a passing cause, and costs next to nothing for a lasting one. */
const QUARANTINE_BACKOFF: BackoffPolicy = { initialMs: 1_000, maxMs: 60_000 };

/**
 * Publishes the jobs of the outbox, in rounds. There is no cursor: a round is one transaction that locks the first jobs
 * of up to 200 runs (`for update skip locked`), publishes them concurrently and deletes those that were published. A relay
 * that dies in between leaves them to be published again under the same ids: at-least-once, which the ids and the ledger
 * make exactly-once (no-loss).
 *
 * What happens next depends on how the round ended:
 *
 * - **Jobs found**: the next round starts immediately.
 * - **Nothing found**: idle until `wake()`, the poll interval, or the end of a quarantine. A wake-up during a round is
 *   kept, so the relay runs once more.
 * - **Publishing failed and the queue does not answer a ping**: the queue is unreachable. Each round starts with a ping,
 *   without a transaction, with exponential backoff until one succeeds.
 * - **Publishing failed although the queue answers**: these jobs are quarantined with a backoff of their own, and with
 *   them the later jobs of their runs; other runs continue (isolated).
 * - **Postgres failed**: the round is retried with exponential backoff.
 */
export class OutboxRelay {
  readonly #options: OutboxRelayOptions;
  readonly #quarantine = new OutboxQuarantine(() => performance.now());
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #wakeUp = new AbortController();
  #isQueueUnreachable = false;

  /** Starts immediately. */
  constructor(options: OutboxRelayOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Starts a round now, or another one after the round in flight. */
  wake(): void {
    this.#wakeUp.abort();
  }

  /** Starts no more rounds, and waits up to 2 s for the one in flight. */
  async close(): Promise<void> {
    this.#stopping.abort();
    this.#wakeUp.abort();
    await Promise.race([this.#running, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    while (!signal.aborted) {
      this.#wakeUp = new AbortController();
      try {
        const idleMs = await this.#round();
        failures = 0;
        if (idleMs > 0) await abortableSleep(idleMs, this.#wakeUp.signal);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#options.onError(toError(error));
        await abortableSleep(backoffDelay(failures, RECONNECT_BACKOFF), signal);
      }
    }
  }

  /** Returns for how long to be idle, in milliseconds. */
  async #round(): Promise<number> {
    // No transaction is opened only to learn that the queue is still unreachable.
    if (this.#isQueueUnreachable) await this.#options.pingQueue();
    this.#isQueueUnreachable = false;
    const quarantined = this.#quarantine.current();
    const { found, failed } = await this.#options.db.transaction(async (tx) => {
      await setIdleInTransactionTimeout(tx, this.#options.idleInTransactionTimeoutMs);
      const jobs = await lockFirstOutboxJobs(tx, BATCH_SIZE, quarantined.ids);
      const failedJobs = await this.#publish(jobs);
      const unpublished = new Set(failedJobs.map(({ job }) => job));
      const published = jobs.filter((job) => !unpublished.has(job));
      if (published.length > 0) await deleteOutboxJobs(tx, idsOf(published));
      return { found: jobs.length, failed: failedJobs };
    });
    if (failed.length > 0) await this.#classifyFailures(failed);
    return found > 0 ? 0 : Math.min(this.#options.pollIntervalMs, quarantined.msUntilNext);
  }

  /** Concurrently: no two of the jobs are of the same run. */
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

  /** Distinguishes an unreachable queue, which stops all jobs, from jobs that the queue rejects. */
  async #classifyFailures(failed: readonly FailedJob[]): Promise<void> {
    this.#isQueueUnreachable = true;
    await this.#options.pingQueue();
    this.#isQueueUnreachable = false;
    for (const { job, error } of failed) {
      const delayMs = this.#quarantine.add(job.id);
      this.#options.onUnpublishable(
        new Error(`${job.jobId} (row ${job.id}) is retried in ${delayMs} ms: ${rootCauseMessage(error)}`),
      );
    }
  }
}

const idsOf = (jobs: readonly OutboxJob[]) => jobs.map((job) => job.id);

/** Jobs that could not be published although the queue answers, each excluded from rounds with exponential backoff. */
export class OutboxQuarantine {
  readonly #now: () => number;
  readonly #jobs = new Map<string, { failures: number; until: number }>();

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Quarantines a job that failed, and returns for how many milliseconds. */
  add(id: string): number {
    const failures = (this.#jobs.get(id)?.failures ?? 0) + 1;
    const delayMs = backoffDelay(failures, QUARANTINE_BACKOFF);
    this.#jobs.set(id, { failures, until: this.#now() + delayMs });
    return delayMs;
  }

  /** The jobs excluded now, and the milliseconds until the first of them is retried. */
  current(): { ids: string[]; msUntilNext: number } {
    const now = this.#now();
    const ids: string[] = [];
    let msUntilNext = Number.POSITIVE_INFINITY;
    for (const [id, { until }] of this.#jobs) {
      if (until > now) {
        ids.push(id);
        msUntilNext = Math.min(msUntilNext, until - now);
      } else if (now - until > QUARANTINE_BACKOFF.maxMs) {
        // It has not failed again for a minute, so it was published, or removed by an operator.
        this.#jobs.delete(id);
      }
    }
    return { ids, msUntilNext };
  }
}
