import { createPostgresBackend } from 'bullmq';
import { Client } from 'pg';
import type { QueueStore } from './store.ts';

/**
 * Connections of each queue, worker and listener. Two is what BullMQ's own measurements show to be enough, beside the
 * one that each keeps for LISTEN.
 */
const CONNECTIONS_PER_QUEUE = 2;

const CONNECT_TIMEOUT_MS = 5_000;

/** Queues in Postgres, in the schema `bullmq`. BullMQ makes and closes the connections. */
export function openPostgresStore(queueUrl: string): QueueStore {
  const connection = {
    connectionString: queueUrl,
    max: CONNECTIONS_PER_QUEUE,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  };
  return {
    kind: 'postgres',
    hashTags: false,
    factory: (name, options, roles) => createPostgresBackend(name, { ...options, connection }, roles),
    async ping() {
      const client = new Client(connection);
      await client.connect();
      try {
        await client.query('select 1');
      } finally {
        await client.end();
      }
    },
    async close() {},
  };
}
