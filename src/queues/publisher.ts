import { LessorError, QueueUnreachableError } from '../contracts/index.ts';
import { FairQueue } from './fairness.ts';
import { JOB_OPTIONS } from './job-options.ts';
import type { OperationQueueName } from './job-options.ts';
import type { LessorQueue, Queues } from './queues.ts';
import { withTimeout } from '../lib/abort.ts';
import { messageOf } from '../lib/errors.ts';

/** The part of a payload that fair queuing needs. */
export interface CompanyPayload {
  companyId: string;
}

/**
 * Publishes jobs, each with one atomic command and at its company's fair position. Fails within its timeout when the queue
 * cannot be reached; a job that was not sent by then is not sent later.
 */
export class Publisher {
  readonly #queues: Queues;
  readonly #timeoutMs: number;
  readonly #opened = new Map<OperationQueueName, Promise<LessorQueue>>();
  readonly #fairQueues = new Map<OperationQueueName, FairQueue>();
  #closed = false;

  constructor(queues: Queues, timeoutMs: number) {
    this.#queues = queues;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * @param abandoned aborted when the caller no longer waits; a job that was not sent by then is not sent later
   * @throws {QueueUnreachableError}
   */
  async publish(
    name: OperationQueueName,
    jobId: string,
    payload: CompanyPayload,
    abandoned?: AbortSignal,
  ): Promise<void> {
    try {
      await withTimeout(this.#timeoutMs, (timedOut) => {
        const signal = abandoned === undefined ? timedOut : AbortSignal.any([timedOut, abandoned]);
        return this.#send(name, jobId, payload, signal);
      });
    } catch (error) {
      if (error instanceof LessorError) throw error;
      throw new QueueUnreachableError(messageOf(error), { cause: error });
    }
  }

  async #send(name: OperationQueueName, jobId: string, payload: CompanyPayload, signal: AbortSignal): Promise<void> {
    const queue = await this.queue(name, signal);
    const { priority, confirm } = await this.#fairQueue(name, queue).assign(payload.companyId, jobId);
    let isPublished = false;
    try {
      signal.throwIfAborted();
      await queue.add(name, payload, { ...JOB_OPTIONS[name], jobId, priority });
      isPublished = true;
    } finally {
      confirm(isPublished);
    }
  }

  #fairQueue(name: OperationQueueName, queue: LessorQueue): FairQueue {
    const known = this.#fairQueues.get(name);
    if (known !== undefined) return known;
    const fairQueue = new FairQueue(queue);
    this.#fairQueues.set(name, fairQueue);
    return fairQueue;
  }

  /** The queue, once it can be reached. A queue that failed to open is opened again the next time. */
  async queue(name: OperationQueueName, signal: AbortSignal): Promise<LessorQueue> {
    if (this.#closed) throw new Error('the producer is closed');
    await this.#queues.ready(signal);
    let opening = this.#opened.get(name);
    if (opening === undefined) {
      opening = this.#open(name);
      this.#opened.set(name, opening);
      opening.catch(() => this.#opened.delete(name));
    }
    return opening;
  }

  async #open(name: OperationQueueName): Promise<LessorQueue> {
    const queue = this.#queues.queue(name);
    await queue.waitUntilReady();
    return queue;
  }

  /** Waits for what is in flight. Nothing more is published. */
  async close(): Promise<void> {
    this.#closed = true;
    const opened = await Promise.allSettled(this.#opened.values());
    const queues = opened.filter((queue) => queue.status === 'fulfilled').map((queue) => queue.value);
    await Promise.all(queues.map((queue) => queue.close()));
  }
}
