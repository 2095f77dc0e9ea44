import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import { Redis } from 'ioredis';
import { onTestFinished } from 'vitest';
import { until } from '../support/until.ts';

const PROGRAM = 'redis-server';

/** Why no Redis can be started here; undefined when one can. */
export const whyNoRedisServer =
  spawnSync(PROGRAM, ['--version']).status === 0 ? undefined : `${PROGRAM} is not on the PATH`;

/** A port that nobody listens on, also not 10000 above it, where a node of a cluster listens too. */
export const freePort = () => getPort({ port: Array.from({ length: 500 }, () => randomPort()) });

const randomPort = () => 20_000 + Math.floor(Math.random() * 20_000);

/** A Redis of a test's own. It is ended after the test at the latest. */
export interface RedisServer {
  port: number;
  /** Sends a command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  stop(): Promise<void>;
}

/** Starts a Redis on a port, and waits until it answers. */
export async function startRedisServer(port: number, options: Record<string, string> = {}): Promise<RedisServer> {
  const all = { port: String(port), bind: '127.0.0.1', save: '', appendonly: 'no', ...options };
  return launch(port, [], all);
}

/** Starts a sentinel that watches a master, and waits until it has found it. */
export async function startSentinel(port: number, masterName: string, masterPort: number): Promise<RedisServer> {
  const config = [`port ${port}`, 'bind 127.0.0.1', `sentinel monitor ${masterName} 127.0.0.1 ${masterPort} 1`];
  return launch(port, config, { sentinel: '' });
}

async function launch(port: number, config: readonly string[], options: Record<string, string>): Promise<RedisServer> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-redis-'));
  const configFile = join(directory, 'redis.conf');
  await writeFile(configFile, [...config, `dir ${directory}`, ''].join('\n'));
  const flags = Object.entries(options).flatMap(([name, value]) =>
    name === 'sentinel' ? [`--${name}`] : [`--${name}`, value],
  );
  const server = spawn(PROGRAM, [configFile, ...flags], { stdio: 'ignore' });
  const exited = once(server, 'exit');
  const client = new Redis({ port, lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  client.on('error', () => undefined);
  const stop = async () => {
    client.disconnect();
    if (server.exitCode === null && server.signalCode === null) server.kill('SIGKILL');
    await exited;
    await rm(directory, { recursive: true, force: true });
  };
  onTestFinished(stop);
  const call = async (command: string, ...args: string[]): Promise<unknown> => {
    if (client.status !== 'ready') await client.connect();
    return client.call(command, ...args);
  };
  await until(() => call('PING'), { what: `an answer of the Redis on port ${port}` });
  return { port, call, stop };
}
