import { setTimeout as sleep } from 'node:timers/promises';
import {
  JobFailedError,
  LeaseDeniedError,
  LeaseWaitTimeoutError,
  LessorError,
  QueueUnreachableError,
  parseRefusal,
} from '../contracts/index.ts';
import type { PayloadQueueName } from '../contracts/index.ts';
import type { LessorQueueEvents, Queues } from '../queues/queues.ts';
import { untilAborted } from '../queues/until-aborted.ts';
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

/** Waits for jobs and tells refusals, failures and timeouts apart. */
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
        lastError = error instanceof Error ? error : new Error(String(error));
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
    const queue = await this.#publisher.queue(name, AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(forMs))]));
    const job = await queue.getJob(jobId);
    if (job === undefined) return undefined;
    try {
      return { value: await untilAborted(job.waitUntilFinished(this.#eventsOf(name), forMs), signal) };
    } catch (error) {
      signal.throwIfAborted();
      // A failure, a missed event and the end of the short wait look the same here; the job itself tells them apart.
      const state = await job.getState();
      const seen = await queue.getJob(jobId);
      if (state === 'failed') throw errorOfFailedJob(jobId, seen?.failedReason ?? String(error));
      return state === 'completed' && seen !== undefined ? { value: seen.returnvalue } : undefined;
    }
  }

  #eventsOf(name: PayloadQueueName): LessorQueueEvents {
    const opened = this.#events.get(name) ?? this.#queues.queueEvents(name);
    this.#events.set(name, opened);
    return opened;
  }

  /** Ends all waits. */
  async close(): Promise<void> {
    this.#closing.abort(new QueueUnreachableError('the producer was closed'));
    const closed = Promise.all([...this.#events.values()].map((events) => events.close()));
    // A queue that is away does not let go of who listens to it: disconnecting ends that afterwards.
    await Promise.race([closed, sleep(CLOSES_WITHIN_MS, undefined, { ref: false })]);
  }
}

function errorOfFailedJob(jobId: string, failedReason: string): LessorError {
  const refusal = parseRefusal(failedReason);
  return refusal === undefined ? new JobFailedError(jobId, failedReason) : new LeaseDeniedError(refusal);
}
