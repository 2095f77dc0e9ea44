import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { QueueNotDurableError } from '../../src/contracts/index.ts';
import { useDatabase } from '../support/database.ts';
import { freePort, startRedisServer, whyNoRedisServer } from '../queues/redis-server.ts';
import { newWorker, openProducer } from './fixture.ts';
import type { WorkerOverrides } from './fixture.ts';
import { spawnWorker } from './processes.ts';

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

const DURABLE = { appendonly: 'yes', 'maxmemory-policy': 'noeviction' };
const EVICTING = { appendonly: 'yes', 'maxmemory-policy': 'allkeys-lru' };

/** Takes from everybody's user what asks what the server is like. */
const WITHOUT_INFO = ['ACL', 'SETUSER', 'default', '-info', '-config'] as const;

async function redisWith(options: Record<string, string>) {
  const redis = await startRedisServer(await freePort(), options);
  return { redis, url: `redis://127.0.0.1:${redis.port}` };
}

describe.skipIf(whyNoRedisServer !== undefined)(`at its start a worker on Redis${unlessRunnable}`, () => {
  const database = useDatabase();

  /** A worker that keeps what it logs of the queue's durability, each line by its level. */
  function workerOn(queueUrl: string, overrides: WorkerOverrides = {}) {
    const lines: string[] = [];
    const logger = pino(
      { level: 'debug' },
      {
        write: (line) => {
          const { level, msg } = JSON.parse(line) as { level: number; msg: string };
          const isOfDurability = /jobs away|at a restart|durable/.test(msg);
          if (isOfDurability) lines.push(`${pino.levels.labels[level]}: ${msg}`);
        },
      },
    );
    const backend = { kind: 'redis', queueUrl, prefix: 'lessor', database } as const;
    return { worker: newWorker(backend, { logger, ...overrides }), lines };
  }

  test('has nothing to say of one that keeps what it has, which may be required', async () => {
    const { url } = await redisWith(DURABLE);
    const { worker, lines } = workerOn(url, { requireDurableQueue: true });
    await worker.start();
    expect(lines).toEqual([]);
  });

  test('warns of one that may throw jobs away, once', async () => {
    const { url } = await redisWith(EVICTING);
    const { worker, lines } = workerOn(url);
    await worker.start();
    expect(lines).toEqual([
      'warn: Redis throws jobs away when its memory is full, and their runs stall: set maxmemory-policy to noeviction',
    ]);
  });

  test('refuses one that may throw jobs away where a durable one is required', async () => {
    const { redis, url } = await redisWith(DURABLE);
    await redis.call('CONFIG', 'SET', 'maxmemory-policy', 'volatile-ttl');
    const { worker } = workerOn(url, { requireDurableQueue: true });
    const refused = await worker.start().catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(QueueNotDurableError);
    expect(refused).toMatchObject({
      code: 'queue_not_durable',
      message: expect.stringMatching(/volatile-ttl.*set maxmemory-policy to noeviction/),
    });
  });

  test('warns of one that forgets jobs at a restart, and refuses none for it', async () => {
    const { url } = await redisWith({ ...DURABLE, appendonly: 'no' });
    const { worker, lines } = workerOn(url, { requireDurableQueue: true });
    await worker.start();
    expect(lines).toEqual([
      'warn: Redis loses jobs at a restart, those since its last snapshot or all: set appendonly to yes',
    ]);
  });

  test('serves one that does not tell, unless a durable one is required', async () => {
    const { redis, url } = await redisWith(DURABLE);
    await redis.call(...WITHOUT_INFO);
    const { worker, lines } = workerOn(url);
    await worker.start();
    expect(lines).toEqual(['debug: whether the queue is durable is unknown: it does not tell']);
    const producer = openProducer({ queueUrl: url, prefix: 'lessor' });
    const run = { companyId: randomUUID(), runId: randomUUID() };
    await producer.runStarted(run);
    expect(await producer.waitForLease(run.runId)).toMatchObject({ status: 'active' });

    const { worker: demanding } = workerOn(url, { requireDurableQueue: true });
    await expect(demanding.start()).rejects.toThrow(/cannot be told.*permit INFO/);
  });

  test('as a process, writes nothing but JSON lines, and exits with what is wrong', async () => {
    const { url } = await redisWith(EVICTING);
    const backend = { kind: 'redis', queueUrl: url, prefix: 'lessor', database } as const;
    const serving = spawnWorker(backend);
    await serving.untilLogged('worker started');
    serving.kill('SIGTERM');
    expect(await serving.ended).toBe(0);
    const messages = serving
      .log()
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { msg: string }).msg);
    expect(messages.filter((message) => message.includes('maxmemory-policy'))).toHaveLength(1);

    const refusing = spawnWorker(backend, ['--require-durable-queue']);
    expect(await refusing.ended).toBe(1);
    expect(refusing.log()).toContain('error: the queue is not durable, as REQUIRE_DURABLE_QUEUE wants it');
  });
});
