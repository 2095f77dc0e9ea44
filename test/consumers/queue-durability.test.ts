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

const DURABILITY_EVENTS = new Set(['queue_durability_unknown', 'queue_evicts_jobs', 'queue_loses_jobs_at_restart']);

const DURABLE = { appendonly: 'yes', 'maxmemory-policy': 'noeviction' };
const EVICTING = { appendonly: 'yes', 'maxmemory-policy': 'allkeys-lru' };

/** Forbids INFO and CONFIG to the default user. */
const WITHOUT_INFO = ['ACL', 'SETUSER', 'default', '-info', '-config'] as const;

async function redisWith(options: Record<string, string>) {
  const redis = await startRedisServer(await freePort(), options);
  return { redis, url: `redis://127.0.0.1:${redis.port}` };
}

describe.skipIf(whyNoRedisServer !== undefined)(`a worker that starts on Redis${unlessRunnable}`, () => {
  const database = useDatabase();

  /** A worker, and what it logs about the durability of the queue. */
  function workerOn(queueUrl: string, overrides: WorkerOverrides = {}) {
    const lines: string[] = [];
    const logger = pino(
      { level: 'debug' },
      {
        write: (line) => {
          const { level, event, remedy } = JSON.parse(line) as { level: number; event: string; remedy?: string };
          if (DURABILITY_EVENTS.has(event)) lines.push([pino.levels.labels[level], event, remedy].join(' '));
        },
      },
    );
    const backend = { kind: 'redis', queueUrl, prefix: 'lessor', database } as const;
    return { worker: newWorker(backend, { logger, ...overrides }), lines };
  }

  test('accepts a durable queue that is required, and logs nothing', async () => {
    const { url } = await redisWith(DURABLE);
    const { worker, lines } = workerOn(url, { requireDurableQueue: true });
    await worker.start();
    expect(lines).toEqual([]);
  });

  test('warns once when Redis may evict jobs', async () => {
    const { url } = await redisWith(EVICTING);
    const { worker, lines } = workerOn(url);
    await worker.start();
    expect(lines).toEqual(['warn queue_evicts_jobs set maxmemory-policy to noeviction']);
  });

  test('rejects a Redis that may evict jobs when a durable queue is required', async () => {
    const { redis, url } = await redisWith(DURABLE);
    await redis.call('CONFIG', 'SET', 'maxmemory-policy', 'volatile-ttl');
    const { worker } = workerOn(url, { requireDurableQueue: true });
    const rejection = await worker.start().catch((error: unknown) => error);
    expect(rejection).toBeInstanceOf(QueueNotDurableError);
    expect(rejection).toMatchObject({
      code: 'queue_not_durable',
      message: expect.stringMatching(/volatile-ttl.*set maxmemory-policy to noeviction/),
    });
  });

  test('warns when Redis loses jobs at a restart, and starts even if a durable queue is required', async () => {
    const { url } = await redisWith({ ...DURABLE, appendonly: 'no' });
    const { worker, lines } = workerOn(url, { requireDurableQueue: true });
    await worker.start();
    expect(lines).toEqual(['warn queue_loses_jobs_at_restart set appendonly to yes']);
  });

  test('starts when INFO is not permitted, unless a durable queue is required', async () => {
    const { redis, url } = await redisWith(DURABLE);
    await redis.call(...WITHOUT_INFO);
    const { worker, lines } = workerOn(url);
    await worker.start();
    expect(lines).toEqual(['debug queue_durability_unknown ']);
    const producer = openProducer({ queueUrl: url, prefix: 'lessor' });
    const run = { companyId: randomUUID(), runId: randomUUID() };
    await producer.runStarted(run);
    expect(await producer.waitForLease(run.runId)).toMatchObject({ status: 'active' });

    const { worker: strict } = workerOn(url, { requireDurableQueue: true });
    await expect(strict.start()).rejects.toThrow(/its policy is unknown.*permit INFO/);
  });

  test('as a process, writes JSON lines only, and exits with the reason when a durable queue is required', async () => {
    const { url } = await redisWith(EVICTING);
    const backend = { kind: 'redis', queueUrl: url, prefix: 'lessor', database } as const;
    const serving = spawnWorker(backend);
    await serving.untilLogged('worker started');
    serving.kill('SIGTERM');
    expect(await serving.ended).toBe(0);
    const events = serving
      .log()
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { event: string }).event);
    expect(events.filter((event) => event === 'queue_evicts_jobs')).toHaveLength(1);

    const rejecting = spawnWorker(backend, ['--require-durable-queue']);
    expect(await rejecting.ended).toBe(1);
    expect(rejecting.log()).toContain('error: the queue is not durable, as REQUIRE_DURABLE_QUEUE wants it');
  });
});
