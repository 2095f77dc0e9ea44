import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  JobFailedError,
  RejectedError,
  LeaseWaitTimeoutError,
  LessorError,
  QueueUnreachableError,
  parseRejection,
} from '../contracts/index.ts';
import type { PayloadQueueName } from '../contracts/index.ts';
import type { LessorQueue, LessorQueueEvents, Queues } from '../queues/queues.ts';
import { raceAbort } from '../lib/abort.ts';
import { toError } from '../lib/errors.ts';
import type { Publisher } from '../queues/publisher.ts';

/** The run whose job is waited for, and for how long. */
export interface ResultWait {
  runId: string;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * Events can be missed on the Postgres backend and after a reconnect, so the job itself is read at least this often while
 * its event is awaited.
 */
const POLL_TIMEOUT_MS = 500;

/** Between polls, for a job that does not exist yet or a queue that is unreachable. */
const POLL_INTERVAL_MS = 100;

/** Closing a listener takes milliseconds unless its queue is unreachable. */
const CLOSE_TIMEOUT_MS = 500;

/** Waits for the results of jobs, and distinguishes rejections, failures and timeouts. */
export class JobResults {
  readonly #queues: Queues;
  readonly #publisher: Publisher;
  readonly #events = new Map<PayloadQueueName, LessorQueueEvents>();
  readonly #closing = new AbortController();

  constructor(queues: Queues, publisher: Publisher) {
    this.#queues = queues;
    this.#publisher = publisher;
  }

  /** The return value of a job, which need not be published yet. */
  async waitFor(name: PayloadQueueName, jobId: string, wait: ResultWait): Promise<unknown> {
    const deadline = performance.now() + wait.timeoutMs;
    const signal = AbortSignal.any([this.#closing.signal, ...(wait.signal === undefined ? [] : [wait.signal])]);
    let lastError: Error | undefined;
    for (let left = wait.timeoutMs; left > 0; left = deadline - performance.now()) {
      signal.throwIfAborted();
      try {
        const outcome = await this.#poll(name, jobId, Math.min(left, POLL_TIMEOUT_MS), signal);
        if (outcome !== undefined) return outcome.value;
        lastError = undefined;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof LessorError) throw error;
        lastError = toError(error);
      }
      await sleep(POLL_INTERVAL_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
    if (lastError !== undefined) throw new QueueUnreachableError(lastError.message, { cause: lastError });
    throw new LeaseWaitTimeoutError(wait.runId, wait.timeoutMs);
  }

  /** Waits briefly. Undefined when the job does not exist yet or has not ended. */
  async #poll(
    name: PayloadQueueName,
    jobId: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<{ value: unknown } | undefined> {
    const over = new AbortController();
    const end = () => over.abort(new Error(`no answer within ${timeoutMs} ms`));
    const timer = setTimeout(end, timeoutMs);
    signal.addEventListener('abort', end, { once: true });
    try {
      const queue = await this.#publisher.queue(name, over.signal);
      const ended = this.#waitForEndEvent(name, jobId, over.signal);
      const outcome = await readOutcome(queue, jobId);
      if (outcome !== undefined) return outcome;
      await ended;
      return await readOutcome(queue, jobId);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      end();
    }
  }

  /**
   * Resolves on the event of the job's end, or when the event can no longer arrive. BullMQ's `waitUntilFinished` is not
   * used: an error while it reads the job is an unhandled rejection, which ends the process.
   */
  async #waitForEndEvent(name: PayloadQueueName, jobId: string, signal: AbortSignal): Promise<void> {
    try {
      const events = this.#eventsOf(name);
      await raceAbort(events.waitUntilReady(), signal);
      await Promise.race(['completed', 'failed'].map((end) => once(events, `${end}:${jobId}`, { signal })));
    } catch {
      // The caller reads the job instead.
    }
  }

  #eventsOf(name: PayloadQueueName): LessorQueueEvents {
    const opened = this.#events.get(name);
    if (opened !== undefined) return opened;
    const events = this.#queues.queueEvents(name);
    // Each wait in flight adds a listener.
    events.setMaxListeners(0);
    this.#events.set(name, events);
    // A QueueEvents whose first connection failed stays failed, so the next wait opens another one.
    events.waitUntilReady().catch(() => {
      this.#events.delete(name);
      return events.close().catch(() => undefined);
    });
    return events;
  }

  /** Ends all waits. */
  async close(): Promise<void> {
    this.#closing.abort(new QueueUnreachableError('the producer was closed'));
    const closed = Promise.all([...this.#events.values()].map(closeEvents));
    // Closing blocks while the queue is unreachable; disconnecting afterwards ends it.
    await Promise.race([closed, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
  }
}

/** Closing a QueueEvents while it connects leaks that connection. One that failed to connect is closed already. */
async function closeEvents(events: LessorQueueEvents): Promise<void> {
  const isReady = await events.waitUntilReady().then(
    () => true,
    () => false,
  );
  if (isReady) await events.close();
}

/** The outcome as the job itself stores it, which unlike an event cannot be missed. */
async function readOutcome(queue: LessorQueue, jobId: string): Promise<{ value: unknown } | undefined> {
  const state = await queue.getJobState(jobId);
  if (state !== 'completed' && state !== 'failed') return undefined;
  const job = await queue.getJob(jobId);
  if (job === undefined) return undefined;
  if (state === 'failed') throw errorOfFailedJob(jobId, job.failedReason);
  return { value: job.returnvalue };
}

function errorOfFailedJob(jobId: string, failedReason: string): LessorError {
  const rejection = parseRejection(failedReason);
  return rejection === undefined ? new JobFailedError(jobId, failedReason) : new RejectedError(rejection);
}
