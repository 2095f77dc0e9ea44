import { isIPv6 } from 'node:net';
import { fastify, LogController } from 'fastify';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { BOARD_PATH, BoardQueues, addBoard } from '../console/board.ts';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { addAuth, assertAccessControlled } from './auth.ts';
import type { Credentials } from './auth.ts';
import { addHealthRoutes } from './health.ts';

/** What the server shows, and to whom. */
export interface ServerOptions {
  databaseUrl: string;
  queueUrl: string;
  /** The BullMQ prefix; default `lessor`. */
  prefix?: string | undefined;
  /** Without these the server answers this machine only. */
  credentials?: Credentials | undefined;
  logger: FastifyBaseLogger;
}

/** BullMQ waits indefinitely for an unreachable Redis; a request fails after this time instead. */
const REQUEST_TIMEOUT_MS = 5_000;

/** An open page polls every few seconds, so only requests that change something are logged. */
const CHANGES_ONLY = new LogController({ disableRequestLogging: ({ method }) => method === 'GET' });

/**
 * Builds the server without listening. It can be built while a store is unreachable, which `/health/ready` reports.
 * Closing it closes its queues.
 */
export async function buildServer(options: ServerOptions): Promise<FastifyInstance> {
  const { databaseUrl, queueUrl, prefix, credentials, logger } = options;
  const queues = new BoardQueues({ queueUrl, prefix, logger });
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    logController: CHANGES_ONLY,
    handlerTimeout: REQUEST_TIMEOUT_MS,
  });
  app.addHook('onClose', () => queues.close());

  await addAuth(app, credentials);
  addHealthRoutes(app, { databaseUrl, queueUrl });
  addBoard(app, queues);
  app.get('/', (_request, reply) => reply.redirect(BOARD_PATH));
  return app;
}

/** What the server shows, and where it listens. */
export interface ListenOptions extends ServerOptions {
  host: string;
  /** 0 for any free port. */
  port: number;
}

/** A server that listens. */
export interface RunningServer {
  url: string;
  /** Stops listening, waits for requests in flight, then closes the queues. */
  close(): Promise<void>;
}

/**
 * Builds the server and listens.
 * @throws {InvalidConfigurationError} when other machines could reach it without credentials, or when it cannot listen on
 * the address
 */
export async function startServer(options: ListenOptions): Promise<RunningServer> {
  const { host, port, credentials } = options;
  assertAccessControlled(host, credentials);
  const app = await buildServer(options);
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    throw explainListenError(error);
  }
  const address = app.server.address();
  const actualPort = address !== null && typeof address === 'object' ? address.port : port;
  return { url: formatUrl(host, actualPort), close: () => app.close() };
}

function formatUrl(host: string, port: number): string {
  if (host === '0.0.0.0' || host === '::') return `http://127.0.0.1:${port}`;
  return `http://${isIPv6(host) ? `[${host}]` : host}:${port}`;
}

const LISTEN_ERRORS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use; set DASHBOARD_PORT to a free port',
  EACCES: 'listening on that port is not permitted; set DASHBOARD_PORT to one above 1023',
  EADDRNOTAVAIL: 'DASHBOARD_HOST is not an address of this machine',
  ENOTFOUND: 'DASHBOARD_HOST is a name that cannot be resolved',
};

function explainListenError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = LISTEN_ERRORS[code];
  return message === undefined ? error : new InvalidConfigurationError(message);
}
