import { fastify, LogController } from 'fastify';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { BoardQueues } from './board-queues.ts';
import { addBoard, BOARD_PATH } from './board.ts';
import type { Credentials } from './credentials.ts';
import { addGuard } from './guard.ts';
import { addHealthRoutes } from './health-routes.ts';

/** What the dashboard looks at, and who may look. */
export interface DashboardOptions {
  databaseUrl: string;
  queueUrl: string;
  /** BullMQ's prefix; default `lessor`. */
  prefix?: string | undefined;
  /** Without these the dashboard answers this machine only. */
  credentials?: Credentials | undefined;
  logger: FastifyBaseLogger;
}

/** BullMQ waits for a Redis that is away; a page should say so instead. */
const ANSWER_TIMEOUT_MS = 5_000;

/** An open page asks every few seconds; what people change is what the log should tell. */
const WITHOUT_READING = new LogController({ disableRequestLogging: ({ method }) => method === 'GET' });

/** Builds the dashboard. It starts while a store is down; `/health/ready` says so. Closing it closes its queues. */
export async function createDashboard(options: DashboardOptions): Promise<FastifyInstance> {
  const { databaseUrl, queueUrl, prefix, credentials, logger } = options;
  const queues = new BoardQueues({ queueUrl, prefix, logger });
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    logController: WITHOUT_READING,
    handlerTimeout: ANSWER_TIMEOUT_MS,
  });
  app.addHook('onClose', () => queues.close());

  await addGuard(app, credentials);
  addHealthRoutes(app, { databaseUrl, queueUrl });
  addBoard(app, queues);
  app.get('/', (_request, reply) => reply.redirect(BOARD_PATH));
  return app;
}
