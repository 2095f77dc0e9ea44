import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import getPort from 'get-port';
import { Redis } from 'ioredis';
import { until } from './until.ts';

const PROGRAM = 'redis-server';

/** Why no Redis can be started here; undefined when one can. */
export const whyNoRedisServer =
  spawnSync(PROGRAM, ['--version']).status === 0 ? undefined : `${PROGRAM} is not on the PATH`;

/** A port that nobody listens on, also not 10000 above it, where a node of a cluster listens too. */
export const freePort = () => getPort({ port: Array.from({ length: 500 }, () => randomPort()) });

const randomPort = () => 20_000 + Math.floor(Math.random() * 20_000);

/** How a `redis-server` is to be run. */
export interface RedisLaunch {
  readonly port: number;
  /** Where it keeps its configuration and what it saves; it stays there when the server has ended. */
  readonly directory: string;
  /** Lines of its configuration file. */
  readonly config?: readonly string[];
  /** Its flags. One whose value is empty, as of `--save ''`, is told so; `null` is a flag without a value. */
  readonly flags?: Readonly<Record<string, string | null>>;
}

/** A `redis-server` that runs. */
export interface RedisProcess {
  /** Sends a command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  /** Ends the server, if it has not ended yet, and resolves when it is gone. */
  stop(signal: NodeJS.Signals): Promise<void>;
}

/** Starts a Redis on a port of 127.0.0.1, and waits until it answers. It does not outlive this process. */
export async function startRedisProcess({
  port,
  directory,
  config = [],
  flags = {},
}: RedisLaunch): Promise<RedisProcess> {
  const configFile = join(directory, 'redis.conf');
  await writeFile(configFile, [...config, `port ${port}`, 'bind 127.0.0.1', `dir ${directory}`, ''].join('\n'));
  const args = Object.entries(flags).flatMap(([name, value]) =>
    value === null ? [`--${name}`] : [`--${name}`, value],
  );
  const server = spawn(PROGRAM, [configFile, ...args], { stdio: 'ignore' });
  const exited = once(server, 'exit');
  const kill = () => server.kill('SIGKILL');
  process.once('exit', kill);
  const client = new Redis({ port, lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 });
  // Each call rejects by itself.
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
    await until(() => call('PING'), { what: `an answer of the Redis on port ${port}` });
  } catch (error) {
    await stop('SIGKILL');
    throw error;
  }
  return { call, stop };
}
