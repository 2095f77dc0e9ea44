import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import { Queue } from 'bullmq';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { withTimeout } from '../lib/abort.ts';
import { rootCauseMessage } from '../lib/errors.ts';
import { QUEUE_NAMES } from '../queues/job-options.ts';
import { openQueues } from '../queues/queues.ts';
import type { LessorQueue, Queues } from '../queues/queues.ts';

/** The path of Bull Board. */
export const BOARD_PATH = '/queues';

/** Adds Bull Board. While the queues are unreachable its pages load, and its API answers 503. */
export function addBoard(app: FastifyInstance, queues: BoardQueues): void {
  const adapter = new FastifyAdapter().setBasePath(BOARD_PATH);
  const board = createBullBoard({
    queues: [],
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: 'Lessor' } },
  });
  let shown: readonly LessorQueue[] | undefined;

  app.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (!request.url.startsWith(`${BOARD_PATH}/api/`)) return;
      try {
        const opened = await queues.open();
        if (opened === shown) return;
        board.replaceQueues(opened.map(adapterFor));
        shown = opened;
      } catch (error) {
        const message = `the queues are unreachable: ${rootCauseMessage(error)}`;
        await reply.code(503).send({ error: message, message });
      }
    });
    await scope.register(adapter.registerPlugin(), { prefix: BOARD_PATH });
  });
}

/** Bull Board works with any backend, but its types name the one for Redis, so the queue is passed untyped. */
function adapterFor(queue: object): BullMQAdapter {
  if (!(queue instanceof Queue)) throw new TypeError('Bull Board shows BullMQ queues only');
  // The hash tag of Redis Cluster is not part of the queue's name.
  return new BullMQAdapter(queue, { displayName: queue.name.replaceAll(/[{}]/g, '') });
}

/** Where the queues are, and where connection errors are logged. */
export interface BoardQueuesOptions {
  queueUrl: string;
  prefix?: string | undefined;
  logger: FastifyBaseLogger;
}

const CONNECT_TIMEOUT_MS = 4_000;
const CLOSE_TIMEOUT_MS = 2_000;

/** One attempt to open the queues. */
interface Opening {
  readonly queues: Queues;
  opened: readonly LessorQueue[];
  /** Why there is no connection, which the error of a command does not say. */
  connectionError?: Error;
}

/**
 * Every queue of Lessor, opened on first use. A BullMQ queue whose first connection fails stays unusable, so a failed
 * opening is discarded and the next call opens again; once open, connections reconnect on their own.
 */
export class BoardQueues {
  readonly #options: BoardQueuesOptions;
  #opening: Opening;
  #opened: Promise<readonly LessorQueue[]> | undefined;

  /** @throws {InvalidConfigurationError} when the queue URL is not one */
  constructor(options: BoardQueuesOptions) {
    this.#options = options;
    this.#opening = this.#begin();
  }

  /** Resolves once all queues can be used. Rejects with the error of the store. */
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
    const { queueUrl, prefix, logger } = this.#options;
    const onError = (error: Error) => {
      // All queues of a connection report the same error.
      if (opening.connectionError === error) return;
      opening.connectionError = error;
      logger.warn({ event: 'queue_connection_error', reason: rootCauseMessage(error) }, 'queue connection error');
    };
    const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError });
    const opening: Opening = { queues, opened: [] };
    return opening;
  }

  async #end(opening: Opening): Promise<void> {
    try {
      await withTimeout(CLOSE_TIMEOUT_MS, () => Promise.all(opening.opened.map((queue) => queue.close())));
    } catch (error) {
      this.#options.logger.warn({ event: 'queue_close_failed', reason: rootCauseMessage(error) }, 'queue close failed');
    }
    await opening.queues.close();
  }
}

async function connect(opening: Opening, signal: AbortSignal): Promise<readonly LessorQueue[]> {
  await opening.queues.ready(signal);
  signal.throwIfAborted();
  // The metadata of a queue is written by producers and workers only.
  opening.opened = QUEUE_NAMES.map((name) => opening.queues.queue(name, { skipMetasUpdate: true }));
  await Promise.all(opening.opened.map((queue) => queue.waitUntilReady()));
  return opening.opened;
}
