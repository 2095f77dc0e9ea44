import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { startRedisProcess } from '../../testing/stores/redis-server.ts';
import type { RedisLaunch } from '../../testing/stores/redis-server.ts';

export { freePort, whyNoRedisServer } from '../../testing/stores/redis-server.ts';

/** A Redis of a test's own. It is ended after the test at the latest. */
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

/** Starts a sentinel that watches a master, and waits until it has found it. */
export async function startSentinel(port: number, masterName: string, masterPort: number): Promise<RedisServer> {
  const config = [`sentinel monitor ${masterName} 127.0.0.1 ${masterPort} 1`];
  return launch({ port, config, flags: { sentinel: null } });
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

/** How many calls of scripts a server has been sent. */
export async function countScripts(server: RedisServer): Promise<number> {
  const stats = String(await server.call('INFO', 'commandstats'));
  const counts = [...stats.matchAll(/^cmdstat_eval(?:sha)?:calls=(\d+)/gm)].map(([, calls]) => Number(calls));
  return counts.reduce((sum, count) => sum + count, 0);
}
