import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import { migrate, migrateQueue } from '../../src/index.ts';
import type { Closers } from '../../src/lib/closers.ts';
import { findRedis, whyNoContainers } from './find-stores.ts';
import { startRestartablePostgres } from './postgres-server.ts';
import type { RestartablePostgres } from './postgres-server.ts';
import { startRestartableRedis, whyNoRedisServer } from './redis-server.ts';
import type { RestartableRedis } from './redis-server.ts';

/** Which store the queues are in. */
export type QueueBackend = 'redis' | 'postgres';

/** Migrated stores for worker processes. */
export interface Stores {
  backend: QueueBackend;
  databaseUrl: string;
  queueUrl: string;
}

/** Stores that can be stopped, crashed and started again. */
export interface RestartableStores extends Stores {
  postgres: RestartablePostgres;
  /** Where the queues are, unless they are in Postgres. */
  redis: RestartableRedis | undefined;
}

/**
 * Opens the stores that DATABASE_URL and QUEUE_URL name, or ephemeral ones: Postgres from the npm package, and for the
 * queue a Redis from a container or the PATH, else that same Postgres.
 *
 * @param choice `auto` is Redis where one is found
 */
export async function openStores(choice: QueueBackend | 'auto', closers: Closers): Promise<Stores> {
  const databaseUrl = process.env['DATABASE_URL'] || (await startPostgres(closers));
  const queueUrl = process.env['QUEUE_URL'] || (await openQueue(choice, databaseUrl, closers));
  return migrated({ databaseUrl, queueUrl });
}

/** Starts restartable stores of one's own. */
export async function openRestartableStores(
  backend: QueueBackend,
  closers: Closers,
  postgresSettings: Readonly<Record<string, string | number>> = {},
): Promise<RestartableStores> {
  if (backend === 'redis' && whyNoRedisServer !== undefined) {
    throw new Error(`${whyNoRedisServer}: install it, or choose --backend postgres`);
  }
  const postgres = await startRestartablePostgres({ settings: postgresSettings });
  closers.add(() => postgres.close());
  const redis = backend === 'redis' ? await startRestartableRedis() : undefined;
  if (redis !== undefined) closers.add(() => redis.close());
  const stores = await migrated({ databaseUrl: postgres.url, queueUrl: redis?.url ?? postgres.url });
  return { ...stores, postgres, redis };
}

async function migrated({ databaseUrl, queueUrl }: Omit<Stores, 'backend'>): Promise<Stores> {
  await migrate(databaseUrl);
  const isPostgres = await migrateQueue(queueUrl);
  return { backend: isPostgres ? 'postgres' : 'redis', databaseUrl, queueUrl };
}

async function startPostgres(closers: Closers): Promise<string> {
  const postgres = await startEmbeddedPostgres();
  closers.add(() => postgres.stop());
  return postgres.url;
}

async function openQueue(choice: QueueBackend | 'auto', databaseUrl: string, closers: Closers): Promise<string> {
  if (choice === 'postgres') return databaseUrl;
  const redis = await findRedis(closers, await whyNoContainers());
  if ('url' in redis) return redis.url;
  if (choice === 'redis') throw new Error(`there is no Redis: ${redis.missing}`);
  return databaseUrl;
}
