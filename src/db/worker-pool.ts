import { setTimeout as sleep } from 'node:timers/promises';
import { drizzle } from 'drizzle-orm/node-postgres';
import { Pool } from 'pg';
import type { PoolClient } from 'pg';
import type { DbOptions, DbPool, Transaction } from './connection.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_SECONDS = 2;

/**
 * Connections of a worker, by node-postgres: it gives an error for a connection that is cut in the middle of a
 * transaction, where postgres.js 3.4.9 throws one that nothing can catch, and the process ends
 * (porsager/postgres issues 1066 and 1154).
 */
export function openWorkerPool(url: string, options: DbOptions = {}): DbPool {
  const pool = new Pool({
    connectionString: url,
    max: options.maximumConnections ?? 10,
    application_name: options.applicationName ?? 'lessor',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  });
  const inUse = new Set<PoolClient>();
  pool.on('acquire', (client) => inUse.add(client));
  pool.on('release', (_error, client) => inUse.delete(client));
  // A connection that is lost also rejects what runs on it, which is where it is told; the pool makes a new one.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));

  /** As drizzle's own, but a connection is given back also when it was lost before its transaction had begun. */
  const transaction = async <Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result> => {
    const client = await pool.connect();
    try {
      return await drizzle(client).transaction(work);
    } finally {
      client.release();
    }
  };

  const close = async (timeoutSeconds = CLOSE_TIMEOUT_SECONDS): Promise<void> => {
    const ended = pool.end();
    await Promise.race([ended, sleep(timeoutSeconds * 1_000, undefined, { ref: false })]);
    // Whatever still waits for an answer is cut off.
    await Promise.all([...inUse].map((client) => (client as PoolClient & { end(): Promise<void> }).end()));
    await ended;
  };

  return Object.assign(drizzle(pool), { transaction, close });
}
