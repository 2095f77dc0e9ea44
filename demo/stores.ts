import { startEmbeddedPostgres } from '../src/embedded/index.ts';
import { migrate, migrateQueue } from '../src/index.ts';
import type { Closers } from '../test/support/closers.ts';
import { whyNoContainers } from '../test/support/containers.ts';
import { findRedis } from '../test/support/find-redis.ts';

/** Where the demo runs. */
export interface DemoStores {
  backend: 'redis' | 'postgres';
  databaseUrl: string;
  queueUrl: string;
}

/** Which queue backend the demo is to use; `auto` is Redis where one is at hand. */
export type BackendChoice = 'auto' | DemoStores['backend'];

/**
 * Opens the stores that DATABASE_URL and QUEUE_URL name, or throwaway ones: Postgres from the npm package, and for the
 * queue a Redis from a container or the PATH, or else that same Postgres.
 */
export async function openStores(choice: BackendChoice, closers: Closers): Promise<DemoStores> {
  const databaseUrl = process.env['DATABASE_URL'] || (await startPostgres(closers));
  const queueUrl = process.env['QUEUE_URL'] || (await openQueue(choice, databaseUrl, closers));
  await migrate(databaseUrl);
  const isPostgres = await migrateQueue(queueUrl);
  return { backend: isPostgres ? 'postgres' : 'redis', databaseUrl, queueUrl };
}

async function startPostgres(closers: Closers): Promise<string> {
  const postgres = await startEmbeddedPostgres();
  closers.push(() => postgres.stop());
  return postgres.url;
}

async function openQueue(choice: BackendChoice, databaseUrl: string, closers: Closers): Promise<string> {
  if (choice === 'postgres') return databaseUrl;
  const redis = await findRedis(closers, await whyNoContainers());
  if ('url' in redis) return redis.url;
  if (choice === 'redis') throw new Error(`there is no Redis to run the demo on: ${redis.missing}`);
  return databaseUrl;
}
