import type { Closers } from '../src/lib/closers.ts';
import {
  cloneDatabase,
  createTemplateDatabase,
  onDatabase,
  uniqueDatabaseName,
  urlOfDatabase,
} from '../testing/stores/databases.ts';
import { startRestartablePostgres } from '../testing/stores/postgres-server.ts';
import { startRestartableRedis, whyNoRedisServer } from '../testing/stores/redis-server.ts';
import type { RestartableRedis } from '../testing/stores/redis-server.ts';

/**
 * The defaults of Postgres except for memory, connections and checkpoints, which are too rare to fall into a measurement.
 * Every commit is on disk before it is acknowledged.
 */
export const POSTGRES_SETTINGS = {
  max_connections: 300,
  shared_buffers: '1GB',
  checkpoint_timeout: '1h',
  max_wal_size: '20GB',
};

/** As in docker-compose.yml, without rewrites of the log, which would fall into some measurements. */
export const REDIS_SETTINGS = {
  appendonly: 'yes',
  appendfsync: 'everysec',
  'auto-aof-rewrite-percentage': '0',
  save: '',
  'maxmemory-policy': 'noeviction',
};

/** Settings that must be on for a commit to survive a crash of the machine. */
const DURABILITY = ['fsync', 'synchronous_commit', 'full_page_writes'] as const;

/** The bench's own servers. */
export interface BenchStores {
  readonly redisUrl: string;
  readonly redis: Pick<RestartableRedis, 'call'>;
  /** The default database of the server, for statistics of the whole server. */
  readonly serverUrl: string;
  /** Creates a migrated database in which these companies are registered. It is removed with the server. */
  freshDatabase(companyIds: readonly string[]): Promise<string>;
  emptyRedis(): Promise<void>;
}

/** @throws when there is no Redis, or when Postgres could lose a commit */
export async function openStores(closers: Closers): Promise<BenchStores> {
  if (whyNoRedisServer !== undefined) throw new Error(`the bench measures on Redis, and ${whyNoRedisServer}`);
  const server = await startRestartablePostgres({ settings: POSTGRES_SETTINGS });
  closers.add(() => server.close());
  await assertDurable(server.url);
  const redis = await startRestartableRedis({ flags: REDIS_SETTINGS });
  closers.add(() => redis.close());
  const template = await createTemplateDatabase(server.url);
  return {
    redisUrl: redis.url,
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

async function assertDurable(url: string): Promise<void> {
  await onDatabase(url, async (sql) => {
    for (const setting of DURABILITY) {
      const [row] = await sql`select current_setting(${setting}) as value`;
      if (row!['value'] !== 'on')
        throw new Error(`Postgres has ${setting} ${row!['value']}: it must be on to be measured`);
    }
  });
}
