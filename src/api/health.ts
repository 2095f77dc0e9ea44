import type { FastifyInstance } from 'fastify';
import { openReadDb } from '../db/connection.ts';
import { withTimeout } from '../lib/abort.ts';
import { rootCauseMessage } from '../lib/errors.ts';
import { openQueues } from '../queues/queues.ts';

/** Whether both stores answer. */
export interface Readiness {
  status: 'ready' | 'unavailable';
  postgres: 'up' | 'down';
  queue: 'up' | 'down';
  /** Why each store is down; absent when both are up. */
  reasons?: { postgres?: string; queue?: string };
}

/** The stores to check, and for how long. */
export interface ReadinessOptions {
  databaseUrl: string;
  queueUrl: string;
  /** How long each store may take to answer; default {@link READINESS_TIMEOUT_MS}. Both are checked concurrently. */
  timeoutMs?: number;
}

/** Below the timeouts of usual probes, so that a probe gets an answer and not a timeout of its own. */
export const READINESS_TIMEOUT_MS = 2_000;

/** Orchestrators probe every few seconds: only failures are logged. */
const PROBE_ROUTE = { config: { public: true }, logLevel: 'warn' } as const;

/** Adds `/health/live` and `/health/ready`, which need no credentials. */
export function addHealthRoutes(app: FastifyInstance, stores: ReadinessOptions): void {
  let inFlight: Promise<Readiness> | undefined;
  /** The route is public, so concurrent requests share one check. */
  const readiness = () => {
    inFlight ??= checkReadiness(stores).finally(() => (inFlight = undefined));
    return inFlight;
  };

  app.get('/health/live', PROBE_ROUTE, () => ({ status: 'live' }));
  app.get('/health/ready', PROBE_ROUTE, async (_request, reply) => {
    const answer = await readiness();
    return reply.code(answer.status === 'ready' ? 200 : 503).send(answer);
  });
}

/**
 * Checks both stores, each over a new connection: a pool that is busy must not look like a store that is down. Does not
 * reject because a store is down.
 */
export async function checkReadiness(options: ReadinessOptions): Promise<Readiness> {
  const timeoutMs = options.timeoutMs ?? READINESS_TIMEOUT_MS;
  const [postgres, queue] = await Promise.allSettled([
    pingPostgres(options.databaseUrl, timeoutMs),
    pingQueue(options.queueUrl, timeoutMs),
  ]);
  const reasons: NonNullable<Readiness['reasons']> = {};
  if (postgres.status === 'rejected') reasons.postgres = rootCauseMessage(postgres.reason);
  if (queue.status === 'rejected') reasons.queue = rootCauseMessage(queue.reason);
  const ready = Object.keys(reasons).length === 0;
  return {
    status: ready ? 'ready' : 'unavailable',
    postgres: reasons.postgres === undefined ? 'up' : 'down',
    queue: reasons.queue === undefined ? 'up' : 'down',
    ...(ready ? {} : { reasons }),
  };
}

/** openReadDb resolves once Postgres has answered a statement. */
async function pingPostgres(databaseUrl: string, timeoutMs: number): Promise<void> {
  await withTimeout(timeoutMs, async (signal) => {
    const db = await openReadDb(databaseUrl, { applicationName: 'lessor health', signal });
    await db.close(1);
  });
}

async function pingQueue(queueUrl: string, timeoutMs: number): Promise<void> {
  let connectionError: Error | undefined;
  const queues = openQueues(queueUrl, { role: 'producer', onError: (error) => (connectionError = error) });
  try {
    await withTimeout(timeoutMs, async (signal) => {
      await queues.ready(signal);
      await queues.ping();
    });
  } catch (error) {
    // A failed command says only that there is no connection; the connection's error says why.
    throw connectionError ?? error;
  } finally {
    await queues.close();
  }
}
