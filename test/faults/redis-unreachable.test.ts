import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import { withLease } from '../../src/producers/with-lease.ts';
import { useDatabase } from '../support/database.ts';
import { freePort, startRedisServer, whyNoRedisServer } from '../queues/redis-server.ts';
import { readLease } from '../support/operations.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';
import { until } from '../../testing/until.ts';
import { newWorker, openProducer, startWorker } from '../consumers/fixture.ts';

const notRun = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

/** A stop waits for the queue up to its timeout. */
const QUICK = { sweepIntervalMs: 200, shutdownTimeoutMs: 200 };

async function acquireLease(producer: ReturnType<typeof openProducer>, ttlSeconds = 60) {
  const run = { companyId: randomUUID(), runId: randomUUID() };
  await producer.runStarted({ ...run, ttlSeconds });
  return { run, lease: await producer.waitForLease(run.runId) };
}

function recordingLogger() {
  const lines: string[] = [];
  return { lines, logger: pino({ level: 'info' }, { write: (line) => lines.push(line) }) };
}

describe.skipIf(whyNoRedisServer !== undefined)(`a worker whose Redis is unreachable${notRun}`, () => {
  const database = useDatabase({ audited: true });
  const backendOn = (port: number) =>
    ({ kind: 'redis', queueUrl: `redis://127.0.0.1:${port}`, prefix: 'lessor', database }) as const;

  const untilEnded = (leaseId: string) =>
    until(
      async () => {
        const { status, failure_reason: reason } = await readLease(database.sql, leaseId);
        return status !== 'active' && { status, reason };
      },
      { what: 'the end of the lease' },
    );

  test('no-leak: leases still end after Redis lost all data', async () => {
    const redis = await startRedisServer(await freePort());
    const backend = backendOn(redis.port);
    await startWorker(backend, QUICK);
    const { lease } = await acquireLease(openProducer(backend), 1);
    await redis.call('FLUSHALL');
    expect(await untilEnded(lease.id)).toEqual({
      status: 'expired',
      reason: expect.stringMatching(/^not renewed before/),
    });
    await until(() => redis.call('EXISTS', 'lessor:lease-sweep:repeat:lease-sweep'), { what: 'the schedule' });
  });

  test('no-leak: leases still end while Redis is unreachable', async () => {
    const redis = await startRedisServer(await freePort());
    const backend = backendOn(redis.port);
    await startWorker(backend, QUICK);
    const { lease } = await acquireLease(openProducer(backend), 1);
    await redis.stop();
    expect(await untilEnded(lease.id)).toEqual({
      status: 'expired',
      reason: expect.stringMatching(/^not renewed before/),
    });
  });

  test('no-loss: jobs are processed after an outage of Redis, which is logged throttled', async () => {
    const redis = await startRestartableRedis();
    onTestFinished(() => redis.close());
    const backend = backendOn(redis.port);
    const { logger, lines } = recordingLogger();
    await startWorker(backend, { logger, ...QUICK });
    const producer = openProducer(backend);
    const { run, lease } = await acquireLease(producer);
    lines.length = 0;
    await redis.stop('SIGKILL');
    // A connection of each queue worker, and the one for commands, report every attempt.
    await until(() => lines.some((line) => (JSON.parse(line) as { suppressed?: number }).suppressed! >= 10), {
      what: 'a line with ten suppressed ones',
    });
    expect(lines.length).toBeLessThan(10);
    await redis.start();
    await until(() => producer.runFinished({ ...run, status: 'succeeded' }));
    expect(await untilEnded(lease.id)).toEqual({ status: 'released', reason: null });
    expect((await acquireLease(producer)).lease.status).toBe('active');
  });

  test('no-loss: a run that ends while Redis is unreachable is finished once Redis is back', async () => {
    const redis = await startRestartableRedis();
    onTestFinished(() => redis.close());
    const backend = backendOn(redis.port);
    await startWorker(backend, QUICK);
    const run = { companyId: randomUUID(), runId: randomUUID(), ttlSeconds: 60 };
    let leaseId = '';
    const ended = withLease(openProducer(backend), run, async (lease) => {
      leaseId = lease.id;
      await redis.stop('SIGKILL');
    });
    await until(
      () =>
        leaseId !== '' &&
        redis.call('PING').then(
          () => false,
          () => true,
        ),
      { what: 'the outage' },
    );
    await redis.start();
    await ended;
    expect(await untilEnded(leaseId)).toEqual({ status: 'released', reason: null });
  });

  test('a worker that starts while Redis is unreachable waits for it', async () => {
    const port = await freePort();
    const backend = backendOn(port);
    const worker = newWorker(backend, QUICK);
    const starting = worker.start();
    const early = await Promise.race([starting.then(() => 'started'), freePort().then(() => 'waiting')]);
    expect(early).toBe('waiting');
    await startRedisServer(port);
    await starting;
    expect((await acquireLease(openProducer(backend))).lease.status).toBe('active');
  });

  test('a worker whose Redis was never reachable stops promptly', async () => {
    const { logger, lines } = recordingLogger();
    const worker = newWorker(backendOn(await freePort()), { logger });
    const started = worker.start().then(
      () => 'started',
      () => 'not started',
    );
    await until(() => lines.length > 0, { what: 'a line about it' });
    const before = performance.now();
    await worker.close();
    expect(performance.now() - before).toBeLessThan(2_000);
    expect(await started).toBe('not started');
  });
});
