import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { startRedisProcess } from '../../testing/stores/redis-server.ts';
import type { RedisLaunch } from '../../testing/stores/redis-server.ts';

export { freePort, whyNoRedisServer } from '../../testing/stores/redis-server.ts';

/** A Redis of one test, stopped at the test's end at the latest. */
export interface RedisServer {
  port: number;
  /** Sends a command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  stop(): Promise<void>;
}

/** Starts a Redis on a port, and waits until it answers. */
export async function startRedisServer(port: number, options: Record<string, string> = {}): Promise<RedisServer> {
  return launch({ port, flags: { save: '', appendonly: 'no', ...options } });
}

/** Starts a sentinel that monitors a master, and waits until it answers. */
export async function startSentinel(
  port: number,
  masterName: string,
  masterPort: number,
  options: Record<string, string> = {},
): Promise<RedisServer> {
  const config = [`sentinel monitor ${masterName} 127.0.0.1 ${masterPort} 1`];
  return launch({ port, config, flags: { ...options, sentinel: null } });
}

async function launch(settings: Omit<RedisLaunch, 'directory'>): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-redis-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const redis = await startRedisProcess({ ...settings, directory });
  // Hooks run in reverse order, so the directory outlives the server.
  onTestFinished(() => redis.stop('SIGKILL'));
  return {
    port: settings.port,
    call: (command, ...args) => redis.call(command, ...args),
    stop: () => redis.stop('SIGKILL'),
  };
}

/** Script calls that a server has received. */
export async function countScripts(server: RedisServer): Promise<number> {
  const stats = String(await server.call('INFO', 'commandstats'));
  const counts = [...stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)].map(([, calls]) => Number(calls));
  return counts.reduce((sum, count) => sum + count, 0);
}
