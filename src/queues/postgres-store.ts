import { SchemaMigrationRequiredError, assertSchemaCompatibility, createPostgresBackend } from 'bullmq';
import { Client } from 'pg';
import { SchemaOutdatedError } from '../contracts/index.ts';
import { toClientConfig } from '../lib/postgres-client.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';
import type { QueuesOptions, QueueStore } from './store.ts';

/**
 * Connections of each queue, worker and listener. Two is what BullMQ's own measurements show to be enough, beside the
 * one that each keeps for LISTEN.
 */
const CONNECTIONS_PER_QUEUE = 2;

const CONNECT_TIMEOUT_MS = 5_000;

/**
 * The pools apply this to waiting for a connection in use, too: a producer's burst must not fail before its publisher
 * gives up. A worker has no bursts, and must not wait longer than for a command where a connection falls silent before
 * it is made.
 */
const POOL_TIMEOUT_MS = { producer: 60_000, consumer: 10_000 } as const;

/**
 * A command of BullMQ takes milliseconds. What takes longer than this has met a connection on which nothing arrives any
 * more, which TCP may not notice for hours: it is dropped, and BullMQ goes on with another one.
 */
const COMMAND_TIMEOUT_MS = 10_000;

/** Queues in Postgres, in the schema `bullmq`. BullMQ makes and closes the connections. */
export function openPostgresStore(queueUrl: string, { role }: QueuesOptions): QueueStore {
  const connection = {
    ...toClientConfig(parsePostgresUrl(queueUrl, 'the queue URL')),
    max: CONNECTIONS_PER_QUEUE,
    connectionTimeoutMillis: POOL_TIMEOUT_MS[role],
    keepAlive: true,
    query_timeout: COMMAND_TIMEOUT_MS,
  };
  const ping = async () => {
    const client = new Client({ ...connection, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
    // A connection that is lost also rejects the query that is under way, which is where it is told.
    client.on('error', () => undefined);
    await client.connect();
    try {
      await assertSchemaCompatibility(client);
    } catch (error) {
      if (!(error instanceof SchemaMigrationRequiredError)) throw error;
      throw new SchemaOutdatedError('the tables of the queue are missing', { cause: error });
    } finally {
      await client.end();
    }
  };
  let reaching: Promise<void> | undefined;
  return {
    kind: 'postgres',
    jobsAtOnce: 1,
    hashTags: false,
    factory: (name, options, roles) => createPostgresBackend(name, { ...options, connection }, roles),
    // A BullMQ class that once failed to connect stays failed, so none is made before the store was reached. From then
    // on their pools connect anew by themselves.
    ready() {
      reaching ??= ping().catch((error: unknown) => {
        reaching = undefined;
        throw error;
      });
      return reaching;
    },
    assertMigrated: ping,
    ping,
    durability: async () => ({ known: true, evictionPolicy: 'noeviction', survivesRestart: true }),
    async close() {},
  };
}
