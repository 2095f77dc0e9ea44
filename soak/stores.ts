import { migrate, migrateQueue } from '../src/index.ts';
import type { Closers } from '../test/support/closers.ts';
import { whyNoRedisServer } from '../test/support/redis-process.ts';
import { startRestartablePostgres } from '../test/support/restartable-postgres.ts';
import type { RestartablePostgres } from '../test/support/restartable-postgres.ts';
import { startRestartableRedis } from '../test/support/restartable-redis.ts';
import type { RestartableRedis } from '../test/support/restartable-redis.ts';

/** The soak's own stores, which it stops and crashes as it pleases. */
export interface SoakStores {
  backend: 'redis' | 'postgres';
  postgres: RestartablePostgres;
  /** Where the queues are, unless they are in Postgres. */
  redis: RestartableRedis | undefined;
  queueUrl: string;
}

/** Replicas, their successors, and connections that a killed one has not yet been found to have left. */
const POSTGRES_SETTINGS = { max_connections: 400 };

export const defaultBackend: SoakStores['backend'] = whyNoRedisServer === undefined ? 'redis' : 'postgres';

/** Starts the stores and migrates them. */
export async function openStores(backend: SoakStores['backend'], closers: Closers): Promise<SoakStores> {
  if (backend === 'redis' && whyNoRedisServer !== undefined) {
    throw new Error(`${whyNoRedisServer}: install it, or choose --backend postgres`);
  }
  const postgres = await startRestartablePostgres({ settings: POSTGRES_SETTINGS });
  closers.push(() => postgres.close());
  const redis = backend === 'redis' ? await startRestartableRedis() : undefined;
  if (redis !== undefined) closers.push(() => redis.close());
  const queueUrl = redis?.url ?? postgres.url;
  await migrate(postgres.url);
  await migrateQueue(queueUrl);
  return { backend, postgres, redis, queueUrl };
}
