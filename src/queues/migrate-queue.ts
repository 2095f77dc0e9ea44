import { runMigrations } from 'bullmq';
import { Client } from 'pg';
import { toClientConfig } from '../lib/postgres-client.ts';
import { isPostgresUrl, parsePostgresUrl } from '../lib/postgres-url.ts';

/**
 * Brings BullMQ's tables up to date where the queues live in Postgres; on Redis there is nothing to do. Racing callers
 * are safe: BullMQ takes an advisory lock.
 *
 * @returns whether the queues live in Postgres
 */
export async function migrateQueue(queueUrl: string): Promise<boolean> {
  if (!isPostgresUrl(queueUrl)) return false;
  const client = new Client(toClientConfig(parsePostgresUrl(queueUrl, 'the queue URL')));
  // A connection that is lost also rejects the query that is under way, which is where it is told.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await runMigrations(client);
  } finally {
    await client.end();
  }
  return true;
}
