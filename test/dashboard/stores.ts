import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { DEFAULT_PREFIX } from '../../src/queues/names.ts';
import { migrateQueue } from '../../src/queues/migrate-queue.ts';

/** Both kinds of store that the queues can be in. */
export const BACKENDS = ['redis', 'postgres'] as const;
export type Backend = (typeof BACKENDS)[number];

/** A database and queues that no other test uses. */
export interface Stores {
  databaseUrl: string;
  queueUrl: string;
  prefix: string;
  drop(): Promise<void>;
}

const POSTGRES_URL = process.env['TEST_DATABASE_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres';
const REDIS_URL = process.env['TEST_REDIS_URL'] ?? 'redis://127.0.0.1:6379';

export async function createStores(backend: Backend): Promise<Stores> {
  const database = `lessor_dashboard_${randomUUID().replaceAll('-', '')}`;
  const prefix = backend === 'redis' ? `${DEFAULT_PREFIX}-${randomUUID()}` : DEFAULT_PREFIX;
  await administer(`create database ${database}`);
  const databaseUrl = Object.assign(new URL(POSTGRES_URL), { pathname: `/${database}` }).href;
  const queueUrl = backend === 'redis' ? REDIS_URL : databaseUrl;
  await migrateQueue(queueUrl);
  return {
    databaseUrl,
    queueUrl,
    prefix,
    async drop() {
      if (backend === 'redis') await forget(prefix);
      await administer(`drop database ${database} with (force)`);
    },
  };
}

async function administer(statement: string): Promise<void> {
  const client = new Client({ connectionString: POSTGRES_URL });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function forget(prefix: string): Promise<void> {
  const redis = new Redis(REDIS_URL);
  try {
    const keys = await redis.keys(`${prefix}:*`);
    if (keys.length > 0) await redis.del(keys);
  } finally {
    await redis.quit();
  }
}
