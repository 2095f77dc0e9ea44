import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import type { Sql } from 'postgres';
import type { Closers } from '../test/support/closers.ts';
import { freePort, startRedisProcess, whyNoRedisServer } from '../test/support/redis-process.ts';
import type { RedisProcess } from '../test/support/redis-process.ts';
import { startRestartablePostgres } from '../test/support/restartable-postgres.ts';
import {
  cloneDatabase,
  createTemplateDatabase,
  uniqueDatabaseName,
  urlOfDatabase,
} from '../test/support/template-database.ts';

/**
 * Postgres as it comes, but for memory, connections and checkpoints: those are made so rare that none falls into a
 * measurement. Every commit is on the disk before it is acknowledged.
 */
export const POSTGRES_SETTINGS = {
  max_connections: 300,
  shared_buffers: '1GB',
  checkpoint_timeout: '1h',
  max_wal_size: '20GB',
};

/** As in docker-compose.yml; the log is not rewritten, which would fall into some measurement. */
export const REDIS_SETTINGS = {
  appendonly: 'yes',
  appendfsync: 'everysec',
  'auto-aof-rewrite-percentage': '0',
  save: '',
  'maxmemory-policy': 'noeviction',
};

/** What must be on for a commit to outlive a crash of the machine. */
const DURABILITY = ['fsync', 'synchronous_commit', 'full_page_writes'] as const;

/** The bench's own servers. */
export interface BenchStores {
  readonly redisUrl: string;
  readonly redis: RedisProcess;
  /** The database that the server itself names: for looking at the server as a whole. */
  readonly serverUrl: string;
  /** A migrated database that nobody has used yet, in which these companies are known. They all go with the server. */
  freshDatabase(companyIds: readonly string[]): Promise<string>;
  emptyRedis(): Promise<void>;
}

/** @throws when there is no Redis, or when Postgres would lose what it has committed */
export async function openStores(closers: Closers): Promise<BenchStores> {
  if (whyNoRedisServer !== undefined) throw new Error(`the bench measures on Redis, and ${whyNoRedisServer}`);
  const server = await startRestartablePostgres({ settings: POSTGRES_SETTINGS });
  closers.push(() => server.close());
  await assertDurable(server.url);
  const { url: redisUrl, redis } = await startRedis(closers);
  const template = await createTemplateDatabase(server.url);
  return {
    redisUrl,
    redis,
    serverUrl: server.url,
    async freshDatabase(companyIds) {
      const name = uniqueDatabaseName('bench');
      await cloneDatabase(server.url, template, name);
      const url = urlOfDatabase(server.url, name);
      await onDatabase(url, (sql) => sql`insert into lessor.companies (id) select unnest(${companyIds}::uuid[])`);
      return url;
    },
    async emptyRedis() {
      await redis.call('FLUSHALL');
    },
  };
}

/** Runs statements on a connection of their own. */
export async function onDatabase<Result>(url: string, work: (sql: Sql) => Promise<Result>): Promise<Result> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

async function assertDurable(url: string): Promise<void> {
  await onDatabase(url, async (sql) => {
    for (const setting of DURABILITY) {
      const [row] = await sql`select current_setting(${setting}) as value`;
      if (row!['value'] !== 'on')
        throw new Error(`Postgres has ${setting} ${row!['value']}: it must be on to be measured`);
    }
  });
}

async function startRedis(closers: Closers): Promise<{ url: string; redis: RedisProcess }> {
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), 'lessor-bench-redis-'));
  closers.push(() => rm(directory, { recursive: true, force: true }));
  const redis = await startRedisProcess({ port, directory, flags: REDIS_SETTINGS });
  closers.push(() => redis.stop('SIGKILL'));
  return { url: `redis://127.0.0.1:${port}`, redis };
}
