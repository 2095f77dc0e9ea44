import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import { Redis } from 'ioredis';
import { until } from '../until.ts';

const PROGRAMS = ['redis-server', 'valkey-server'] as const;

const program = PROGRAMS.find((name) => spawnSync(name, ['--version']).status === 0);

/** Why no Redis can be started on this machine; undefined when one can. */
export const whyNoRedisServer = program === undefined ? `neither ${PROGRAMS.join(' nor ')} is on the PATH` : undefined;

/** A free port; the port 10000 above it, where a cluster node listens too, is a valid one. */
export const freePort = () => getPort({ port: Array.from({ length: 500 }, () => randomPort()) });

const randomPort = () => 20_000 + Math.floor(Math.random() * 20_000);

/** How a Redis process is started. */
export interface RedisLaunch {
  readonly port: number;
  /** Holds the configuration file and the saved data; it stays when the server has ended. */
  readonly directory: string;
  /** Lines of the configuration file. */
  readonly config?: readonly string[];
  /** Command-line flags. An empty string is passed as an empty value (`--save ''`); `null` is a flag without a value. */
  readonly flags?: Readonly<Record<string, string | null>>;
}

/** A running Redis process. */
export interface RedisProcess {
  /** Sends a command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  /** Ends the server, if it still runs, and resolves when it is gone. */
  stop(signal: NodeJS.Signals): Promise<void>;
}

/** Starts a Redis on a port of 127.0.0.1 and waits until it answers. It does not outlive this process. */
export async function startRedisProcess({
  port,
  directory,
  config = [],
  flags = {},
}: RedisLaunch): Promise<RedisProcess> {
  if (program === undefined) throw new Error(`Redis cannot be started: ${whyNoRedisServer}`);
  const configFile = join(directory, 'redis.conf');
  await writeFile(configFile, [...config, `port ${port}`, 'bind 127.0.0.1', `dir ${directory}`, ''].join('\n'));
  const args = Object.entries(flags).flatMap(([name, value]) =>
    value === null ? [`--${name}`] : [`--${name}`, value],
  );
  const server = spawn(program, [configFile, ...args], { stdio: 'ignore' });
  const exited = once(server, 'exit');
  const kill = () => server.kill('SIGKILL');
  process.once('exit', kill);
  const client = new Redis({ port, lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  // Each call rejects on its own.
  client.on('error', () => undefined);
  const call = async (command: string, ...values: string[]): Promise<unknown> => {
    if (client.status !== 'ready') await client.connect();
    return client.call(command, ...values);
  };
  const stop = async (signal: NodeJS.Signals) => {
    client.disconnect();
    if (server.exitCode === null && server.signalCode === null) server.kill(signal);
    await exited;
    process.off('exit', kill);
  };
  try {
    await until(() => call('PING'), { what: `the Redis on port ${port} answering` });
  } catch (error) {
    await stop('SIGKILL');
    throw error;
  }
  return { call, stop };
}

/** How a Redis is stopped: in order, or killed. */
export type RedisStopSignal = 'SIGTERM' | 'SIGKILL';

/** A Redis that can be stopped and started again under the same URL, with its data. */
export interface RestartableRedis {
  readonly url: string;
  readonly port: number;
  /** Ends the server and resolves when it is gone. */
  stop(signal: RedisStopSignal): Promise<void>;
  /** Starts the server again and resolves when it answers. */
  start(): Promise<void>;
  restart(signal: RedisStopSignal): Promise<void>;
  /** Sends a command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  /** Ends the server, if it runs, and removes its data. */
  close(): Promise<void>;
}

/** Every command is on disk before it is acknowledged, so that acknowledged data survives a SIGKILL. */
export const DURABLE_REDIS = { appendonly: 'yes', appendfsync: 'always', save: '', 'maxmemory-policy': 'noeviction' };

/** Nothing is written to disk. */
export const EPHEMERAL_REDIS = { appendonly: 'no', save: '' };

/** Starts a Redis of one's own, on a free port of 127.0.0.1. */
export async function startRestartableRedis({
  flags = DURABLE_REDIS,
}: Pick<RedisLaunch, 'flags'> = {}): Promise<RestartableRedis> {
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), 'lessor-redis-'));
  let running: RedisProcess | undefined;
  const start = async () => {
    if (running) throw new Error(`the Redis on port ${port} already runs: stop it first`);
    running = await startRedisProcess({ port, directory, flags });
  };
  const stop = async (signal: RedisStopSignal) => {
    const redis = running;
    running = undefined;
    await redis?.stop(signal);
  };
  const close = async () => {
    await stop('SIGKILL');
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    stop,
    start,
    async restart(signal) {
      await stop(signal);
      await start();
    },
    async call(command, ...args) {
      if (!running) throw new Error(`the Redis on port ${port} is stopped: start it first`);
      return running.call(command, ...args);
    },
    close,
  };
}
