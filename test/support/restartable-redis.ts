import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startRedisProcess } from './redis-process.ts';
import type { RedisProcess } from './redis-process.ts';

/** How a Redis is made to end: asked to, or killed. */
export type RedisStopSignal = 'SIGTERM' | 'SIGKILL';

/** A Redis that can be ended and started again under the same URL, with all that it ever acknowledged. */
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

/** Every command is on the disk before it is acknowledged, so what was survives a SIGKILL. */
const DURABLE = { appendonly: 'yes', appendfsync: 'always', save: '', 'maxmemory-policy': 'noeviction' };

/** Starts a Redis of one's own for fault injection, on a free port of 127.0.0.1. */
export async function startRestartableRedis(): Promise<RestartableRedis> {
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), 'lessor-redis-'));
  let running: RedisProcess | undefined;
  const start = async () => {
    if (running) throw new Error(`the Redis on port ${port} runs already: stop it first`);
    running = await startRedisProcess({ port, directory, flags: DURABLE });
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
