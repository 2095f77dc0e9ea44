import { openReadDb } from '../db/connection.ts';
import { openQueues } from '../queues/queues.ts';
import type { Queues } from '../queues/queues.ts';
import { failureReason } from './failure-reason.ts';
import { withTimeout } from '../lib/abort.ts';

/** Whether the stores that everything depends on answer. */
export interface Readiness {
  status: 'ready' | 'unavailable';
  postgres: 'up' | 'down';
  queue: 'up' | 'down';
  /** Why each store that is down is so; absent when both are up. */
  reasons?: { postgres?: string; queue?: string };
}

/** What to check, and for how long. */
export interface ReadinessOptions {
  databaseUrl: string;
  queueUrl: string;
  /** Each store's time to answer; default {@link READINESS_TIMEOUT_MS}. Both are asked at the same time. */
  timeoutMs?: number;
}

/** A store that takes longer is as good as down for whoever waits for it. */
export const READINESS_TIMEOUT_MS = 2_000;

/**
 * Asks both stores, each over a new connection: a pool that is busy must not look like a store that is down. Never
 * rejects because a store is down.
 */
export async function checkReadiness(options: ReadinessOptions): Promise<Readiness> {
  const timeoutMs = options.timeoutMs ?? READINESS_TIMEOUT_MS;
  const [postgres, queue] = await Promise.allSettled([
    askPostgres(options.databaseUrl, timeoutMs),
    askQueue(options.queueUrl, timeoutMs),
  ]);
  const reasons: NonNullable<Readiness['reasons']> = {};
  if (postgres.status === 'rejected') reasons.postgres = failureReason(postgres.reason);
  if (queue.status === 'rejected') reasons.queue = failureReason(queue.reason);
  const ready = Object.keys(reasons).length === 0;
  return {
    status: ready ? 'ready' : 'unavailable',
    postgres: reasons.postgres === undefined ? 'up' : 'down',
    queue: reasons.queue === undefined ? 'up' : 'down',
    ...(ready ? {} : { reasons }),
  };
}

async function askPostgres(databaseUrl: string, timeoutMs: number): Promise<void> {
  await withTimeout(timeoutMs, async (signal) => {
    const db = await openReadDb(databaseUrl, { applicationName: 'lessor health', signal });
    await db.close(1);
  });
}

async function askQueue(queueUrl: string, timeoutMs: number): Promise<void> {
  let connectionError: Error | undefined;
  const queues = openQueues(queueUrl, { role: 'producer', onError: (error) => (connectionError = error) });
  try {
    await withTimeout(timeoutMs, (signal) => reach(queues, signal));
  } catch (error) {
    // What a command says is that there is no connection; why there is none is the connection's to say.
    throw connectionError ?? error;
  } finally {
    await queues.close();
  }
}

async function reach(queues: Queues, signal: AbortSignal): Promise<void> {
  await queues.ready(signal);
  await queues.ping();
}
