import type { FastifyBaseLogger } from 'fastify';
import { QUEUE_NAMES } from '../queues/names.ts';
import { openQueues } from '../queues/queues.ts';
import type { LessorQueue, Queues } from '../queues/queues.ts';
import { failureReason } from './failure-reason.ts';
import { withTimeout } from '../lib/abort.ts';

/** Where the queues are, and who hears of lost connections. */
export interface BoardQueuesOptions {
  queueUrl: string;
  prefix?: string | undefined;
  logger: FastifyBaseLogger;
}

const CONNECT_TIMEOUT_MS = 4_000;
const CLOSE_TIMEOUT_MS = 2_000;

/** One try at opening the queues. */
interface Opening {
  readonly queues: Queues;
  opened: readonly LessorQueue[];
  /** Why there is no connection, which a command that has none cannot say. */
  connectionError?: Error;
}

/**
 * Every queue of Lessor, opened when first asked for. A BullMQ queue whose first connection fails stays unusable for
 * ever, so a failed opening is thrown away and the next call opens anew; once open, connections repair themselves.
 */
export class BoardQueues {
  readonly #options: BoardQueuesOptions;
  #opening: Opening;
  #opened: Promise<readonly LessorQueue[]> | undefined;

  /** @throws {InvalidConfigurationError} when the queue URL is none */
  constructor(options: BoardQueuesOptions) {
    this.#options = options;
    this.#opening = this.#begin();
  }

  /** Resolves once all queues can be used. Rejects with the store's own error. */
  open(): Promise<readonly LessorQueue[]> {
    this.#opened ??= this.#open();
    return this.#opened;
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#opened]);
    await this.#end(this.#opening);
  }

  async #open(): Promise<readonly LessorQueue[]> {
    const opening = this.#opening;
    try {
      return await withTimeout(CONNECT_TIMEOUT_MS, (signal) => connect(opening, signal));
    } catch (error) {
      this.#opening = this.#begin();
      await this.#end(opening);
      this.#opened = undefined;
      throw opening.connectionError ?? error;
    }
  }

  #begin(): Opening {
    const { queueUrl, prefix } = this.#options;
    const onError = (error: Error) => {
      // All queues of a connection report the same error.
      if (opening.connectionError === error) return;
      opening.connectionError = error;
      this.#warn('the connection to the queues failed', error);
    };
    const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError });
    const opening: Opening = { queues, opened: [] };
    return opening;
  }

  async #end(opening: Opening): Promise<void> {
    try {
      await withTimeout(CLOSE_TIMEOUT_MS, () => Promise.all(opening.opened.map((queue) => queue.close())));
    } catch (error) {
      this.#warn('a queue did not close', error);
    }
    await opening.queues.close();
  }

  #warn(message: string, error: unknown): void {
    this.#options.logger.warn({ reason: failureReason(error) }, message);
  }
}

async function connect(opening: Opening, signal: AbortSignal): Promise<readonly LessorQueue[]> {
  await opening.queues.ready(signal);
  signal.throwIfAborted();
  // The board only looks: what a queue remembers about itself is for producers and workers to write.
  opening.opened = QUEUE_NAMES.map((name) => opening.queues.queue(name, { skipMetasUpdate: true }));
  await Promise.all(opening.opened.map((queue) => queue.waitUntilReady()));
  return opening.opened;
}
