import { runMigrations } from 'bullmq';
import { Client } from 'pg';

/**
 * Brings BullMQ's tables up to date where the queues live in Postgres; on Redis there is nothing to do. Racing callers
 * are safe: BullMQ takes an advisory lock.
 *
 * @returns whether the queues live in Postgres
 */
export async function migrateQueue(queueUrl: string): Promise<boolean> {
  if (!/^postgres(ql)?:/.test(queueUrl)) return false;
  const client = new Client({ connectionString: queueUrl });
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
