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

/** Which run is waited for, for how long. */
export interface ResultWait {
  runId: string;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * Events can be missed on the Postgres backend and after a reconnect, so a wait is made of short ones, each of which
 * looks at the job itself first.
 */
const LONGEST_SINGLE_WAIT_MS = 500;

/** Until a job is looked for again that is not there yet, or a queue that is away. */
const LOOK_AGAIN_MS = 100;

/** Taking leave of a queue that is not away takes milliseconds. */
const CLOSES_WITHIN_MS = 500;

/** Waits for jobs and tells rejections, failures and timeouts apart. */
export class JobResults {
  readonly #queues: Queues;
  readonly #publisher: Publisher;
  readonly #events = new Map<PayloadQueueName, LessorQueueEvents>();
  readonly #closing = new AbortController();

  constructor(queues: Queues, publisher: Publisher) {
    this.#queues = queues;
    this.#publisher = publisher;
  }

  /** The return value of a job, also of one that is published only later. */
  async waitFor(name: PayloadQueueName, jobId: string, wait: ResultWait): Promise<unknown> {
    const deadline = performance.now() + wait.timeoutMs;
    const signal = AbortSignal.any([this.#closing.signal, ...(wait.signal === undefined ? [] : [wait.signal])]);
    let lastError: Error | undefined;
    for (let left = wait.timeoutMs; left > 0; left = deadline - performance.now()) {
      signal.throwIfAborted();
      try {
        const outcome = await this.#look(name, jobId, Math.min(left, LONGEST_SINGLE_WAIT_MS), signal);
        if (outcome !== undefined) return outcome.value;
        lastError = undefined;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof LessorError) throw error;
        lastError = toError(error);
      }
      await sleep(LOOK_AGAIN_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
    if (lastError !== undefined) throw new QueueUnreachableError(lastError.message, { cause: lastError });
    throw new LeaseWaitTimeoutError(wait.runId, wait.timeoutMs);
  }

  /** One short wait. Undefined when the job is not there yet or not finished. */
  async #look(
    name: PayloadQueueName,
    jobId: string,
    forMs: number,
    signal: AbortSignal,
  ): Promise<{ value: unknown } | undefined> {
    const over = new AbortController();
    const end = () => over.abort(new Error('it did not answer in time'));
    const timer = setTimeout(end, forMs);
    signal.addEventListener('abort', end, { once: true });
    try {
      const queue = await this.#publisher.queue(name, over.signal);
      const heard = this.#hearOfEnd(name, jobId, over.signal);
      const outcome = await readOutcome(queue, jobId);
      if (outcome !== undefined) return outcome;
      await heard;
      return await readOutcome(queue, jobId);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      end();
    }
  }

  /**
   * Resolves when the job's end is told, or nothing can be heard of it any more. BullMQ's `waitUntilFinished` is not
   * used: what goes wrong in it while it looks at the job is an unhandled rejection, which ends the process.
   */
  async #hearOfEnd(name: PayloadQueueName, jobId: string, signal: AbortSignal): Promise<void> {
    try {
      const events = this.#eventsOf(name);
      await raceAbort(events.waitUntilReady(), signal);
      await Promise.race(['completed', 'failed'].map((end) => once(events, `${end}:${jobId}`, { signal })));
    } catch {
      // What was not heard is read from the job.
    }
  }

  #eventsOf(name: PayloadQueueName): LessorQueueEvents {
    const opened = this.#events.get(name);
    if (opened !== undefined) return opened;
    const events = this.#queues.queueEvents(name);
    // Each wait that goes on listens for an end of its connection.
    events.setMaxListeners(0);
    this.#events.set(name, events);
    // A listener that once failed to connect stays failed: the next wait opens another one.
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
    // A queue that is away does not let go of who listens to it: disconnecting ends that afterwards.
    await Promise.race([closed, sleep(CLOSES_WITHIN_MS, undefined, { ref: false })]);
  }
}

/** One that is closed while it connects leaves that connection open; one that cannot connect has been closed already. */
async function closeEvents(events: LessorQueueEvents): Promise<void> {
  const isReady = await events.waitUntilReady().then(
    () => true,
    () => false,
  );
  if (isReady) await events.close();
}

/** What the job itself says, which unlike its events cannot be missed. */
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
