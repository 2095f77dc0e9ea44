import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import { Queue } from 'bullmq';
import type { FastifyInstance } from 'fastify';
import type { LessorQueue } from '../queues/queues.ts';
import type { BoardQueues } from './board-queues.ts';
import { failureReason } from './failure-reason.ts';

/** Where the board stands. */
export const BOARD_PATH = '/queues';

/** Adds Bull Board. Its pages load while the queues cannot be reached; its API then answers 503. */
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
        const message = `the queues cannot be reached: ${failureReason(error)}`;
        await reply.code(503).send({ error: message, message });
      }
    });
    await scope.register(adapter.registerPlugin(), { prefix: BOARD_PATH });
  });
}

/** Bull Board runs on any backend, but its types name the one for Redis, so the queue comes without its own. */
function adapterFor(queue: object): BullMQAdapter {
  if (!(queue instanceof Queue)) throw new TypeError('the board shows queues of BullMQ only');
  // Cluster hash tags are no part of the name that people know.
  return new BullMQAdapter(queue, { displayName: queue.name.replaceAll(/[{}]/g, '') });
}
