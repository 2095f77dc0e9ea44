import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { tmpdir } from 'node:os';
import getPort from 'get-port';
import { Redis } from 'ioredis';
import type { Closers } from './closers.ts';
import type { FoundStore, MissingStore } from './stores.ts';
import { until } from './until.ts';

const IMAGE = 'redis:8-alpine';
const PROGRAMS = ['redis-server', 'valkey-server'];

/** `TEST_REDIS_URL`, else a container, else a server from the PATH, else why there is none. */
export async function findRedis(
  closers: Closers,
  noContainers: string | undefined,
): Promise<FoundStore | MissingStore> {
  const named = process.env['TEST_REDIS_URL'];
  if (named) return describe(named, 'TEST_REDIS_URL');
  const container = noContainers === undefined ? await startContainer(closers) : { reason: noContainers };
  if (container.url !== undefined) return describe(container.url, `a container of ${IMAGE}`);
  const program = await findProgram();
  if (program === undefined) {
    const missing = `TEST_REDIS_URL is not set, ${container.reason}, and neither ${PROGRAMS.join(' nor ')} is on the PATH`;
    if (process.env['CI'] === 'true') throw new Error(`the tests need Redis in CI: ${missing}`);
    return { missing };
  }
  const url = await startServer(program, closers);
  return describe(url, `${program}, as TEST_REDIS_URL is not set and ${container.reason}`);
}

async function startContainer(closers: Closers): Promise<{ url?: string; reason?: string }> {
  const { RedisContainer } = await import('@testcontainers/redis');
  try {
    const container = await new RedisContainer(IMAGE).start();
    closers.push(() => container.stop());
    return { url: container.getConnectionUrl() };
  } catch (error) {
    return { reason: `a container of ${IMAGE} could not be started (${String(error).trim()})` };
  }
}

async function findProgram(): Promise<string | undefined> {
  for (const program of PROGRAMS) {
    for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
      const path = join(directory, program);
      const isRunnable = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (isRunnable) return path;
    }
  }
  return undefined;
}

async function startServer(program: string, closers: Closers): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-redis-'));
  closers.push(() => rm(directory, { recursive: true, force: true }));
  const port = await getPort();
  const options = { port: String(port), bind: '127.0.0.1', dir: directory, save: '', appendonly: 'no' };
  const server = spawn(
    program,
    Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]),
    { stdio: 'ignore' },
  );
  closers.push(() => endServer(server));
  // A run that is ended by a signal gives its closers no turn.
  const kill = () => server.kill('SIGKILL');
  process.once('exit', kill);
  closers.push(async () => process.off('exit', kill));
  return `redis://127.0.0.1:${port}`;
}

async function endServer(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exited = once(server, 'exit');
  server.kill('SIGTERM');
  await exited;
}

async function describe(url: string, source: string): Promise<FoundStore> {
  const redis = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null });
  redis.on('error', () => undefined);
  try {
    const info = await until(() => readInfo(redis), { what: `an answer of the Redis from ${source}` });
    const version = /^(?:valkey|redis)_version:(.*?)\r?$/m.exec(info)?.[1] ?? 'of unknown version';
    return { url, origin: `Redis ${version} at ${new URL(url).host}, from ${source}` };
  } finally {
    redis.disconnect();
  }
}

async function readInfo(redis: Redis): Promise<string> {
  if (redis.status !== 'ready') await redis.connect();
  return redis.info('server');
}
