import { EventEmitter } from 'node:events';
import { LessorError, QueueUnreachableError } from '../contracts/index.ts';
import { FairQueue } from './fair-queue.ts';
import type { OperationQueueName } from './names.ts';
import type { LessorQueue, Queues } from './queues.ts';
import { JOB_OPTIONS } from './retry-policy.ts';
import { withTimeout } from '../lib/abort.ts';
import { messageOf } from '../lib/errors.ts';

/** What every job says of itself. */
export interface OfCompany {
  companyId: string;
}

/**
 * Publishes jobs, each with one atomic command and at its company's turn, and fails within its timeout when the queue
 * cannot be reached: what was not sent by then is not sent later.
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
   * @param givenUp aborted when the caller waits no longer: what was not sent by then is not sent later
   * @throws {QueueUnreachableError}
   */
  async publish(name: OperationQueueName, jobId: string, payload: OfCompany, givenUp?: AbortSignal): Promise<void> {
    try {
      await withTimeout(this.#timeoutMs, (overdue) => {
        const signal = givenUp === undefined ? overdue : AbortSignal.any([overdue, givenUp]);
        return this.#send(name, jobId, payload, signal);
      });
    } catch (error) {
      if (error instanceof LessorError) throw error;
      throw new QueueUnreachableError(messageOf(error), { cause: error });
    }
  }

  async #send(name: OperationQueueName, jobId: string, payload: OfCompany, signal: AbortSignal): Promise<void> {
    const queue = await this.queue(name, signal);
    const { priority, settle } = await this.#fairQueue(name, queue).place(payload.companyId, jobId);
    let isPublished = false;
    try {
      signal.throwIfAborted();
      await queue.add(name, payload, { ...JOB_OPTIONS[name], jobId, priority });
      isPublished = true;
    } finally {
      settle(isPublished);
    }
  }

  #fairQueue(name: OperationQueueName, queue: LessorQueue): FairQueue {
    const known = this.#fairQueues.get(name);
    if (known !== undefined) return known;
    const fairQueue = new FairQueue(queue);
    this.#fairQueues.set(name, fairQueue);
    return fairQueue;
  }

  /** The queue, once it can be reached. One that could not be opened is opened anew the next time. */
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
    // Every wait for a job's result listens to the queue's closing.
    queue.setMaxListeners(0);
    await queue.waitUntilReady();
    return queue;
  }

  /** What is under way is finished; nothing more is published. */
  async close(): Promise<void> {
    this.#closed = true;
    const opened = await Promise.allSettled(this.#opened.values());
    const queues = opened.filter((queue) => queue.status === 'fulfilled').map((queue) => queue.value);
    // Waits for results listen to this, which BullMQ 6.7 itself never tells, and would stay for their whole time.
    for (const queue of queues) EventEmitter.prototype.emit.call(queue, 'closing', 'the producer was closed');
    await Promise.all(queues.map((queue) => queue.close()));
  }
}
