import { SchemaMigrationRequiredError, assertSchemaCompatibility, createPostgresBackend, runMigrations } from 'bullmq';
import { Client } from 'pg';
import type { ClientConfig } from 'pg';
import { SchemaOutdatedError } from '../../contracts/index.ts';
import { toClientConfig } from '../../lib/postgres-client.ts';
import type { PostgresClientConfig } from '../../lib/postgres-client.ts';
import { isPostgresUrl, parsePostgresUrl } from '../../lib/postgres-url.ts';
import type { QueueBackend, QueuesOptions } from './backend.ts';

/** Connections per queue, worker and listener, besides its LISTEN connection. BullMQ's own benchmarks find 2 enough. */
const CONNECTIONS_PER_QUEUE = 2;

const CONNECT_TIMEOUT_MS = 5_000;

/**
 * The pools apply this limit also to waiting for a connection in use. A producer's burst must not fail before its
 * publisher gives up. A worker has no bursts, and a connection that hangs while it is opened must not block it for longer
 * than a command.
 */
const POOL_TIMEOUT_MS = { producer: 60_000, consumer: 10_000 } as const;

/**
 * A command of BullMQ takes milliseconds. After this time the connection is dead, which TCP may not notice for hours: it
 * is dropped, and BullMQ uses another one.
 */
const COMMAND_TIMEOUT_MS = 10_000;

/** Queues in Postgres, in the schema `bullmq`. BullMQ opens and closes the connections. */
export function openPostgresBackend(queueUrl: string, { role }: QueuesOptions): QueueBackend {
  const connection = {
    ...configOf(queueUrl),
    max: CONNECTIONS_PER_QUEUE,
    connectionTimeoutMillis: POOL_TIMEOUT_MS[role],
    keepAlive: true,
    query_timeout: COMMAND_TIMEOUT_MS,
  };
  const ping = () =>
    withClient({ ...connection, connectionTimeoutMillis: CONNECT_TIMEOUT_MS }, async (client) => {
      try {
        await assertSchemaCompatibility(client);
      } catch (error) {
        if (!(error instanceof SchemaMigrationRequiredError)) throw error;
        throw new SchemaOutdatedError('the tables of the queue are missing', { cause: error });
      }
    });
  let connecting: Promise<void> | undefined;
  return {
    kind: 'postgres',
    maxPrefetch: 1,
    hashTags: false,
    factory: (name, options, roles) => createPostgresBackend(name, { ...options, connection }, roles),
    // A BullMQ object whose first connection failed stays failed, so none is made before a connection has succeeded.
    // From then on its pool reconnects on its own.
    ready() {
      connecting ??= ping().catch((error: unknown) => {
        connecting = undefined;
        throw error;
      });
      return connecting;
    },
    assertMigrated: ping,
    ping,
    durability: async () => ({ known: true, evictionPolicy: 'noeviction', survivesRestart: true }),
    async close() {},
  };
}

/**
 * Migrates BullMQ's tables where the queues are in Postgres; on Redis there is nothing to do. Concurrent callers are
 * safe: BullMQ takes an advisory lock.
 *
 * @returns whether the queues are in Postgres
 * @throws {InvalidConfigurationError} naming what in a Postgres URL is not understood
 */
export async function migrateQueue(queueUrl: string): Promise<boolean> {
  if (!isPostgresUrl(queueUrl)) return false;
  await withClient(configOf(queueUrl), runMigrations);
  return true;
}

function configOf(queueUrl: string): PostgresClientConfig {
  return toClientConfig(parsePostgresUrl(queueUrl, 'the queue URL'));
}

async function withClient(config: ClientConfig, work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client(config);
  // A lost connection also rejects the query in flight.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
