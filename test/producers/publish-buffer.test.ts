import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { InvalidConfigurationError, QueueUnreachableError } from '../../src/contracts/index.ts';
import type { HeartbeatProducerOptions } from '../../src/producers/producer.ts';
import { migrateQueue } from '../../src/queues/backends/postgres.ts';
import type { QueueName } from '../../src/queues/job-options.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { openProducer } from '../consumers/fixture.ts';
import { freePort, whyNoRedisServer } from '../queues/redis-server.ts';
import { startRestartablePostgres } from '../../testing/stores/postgres-server.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';
import { until } from '../../testing/until.ts';

/** A queue of a test's own that can be away. */
interface RestartableQueue {
  url: string;
  stop(): Promise<void>;
  start(): Promise<void>;
}

const START_QUEUE = {
  async redis(): Promise<RestartableQueue> {
    const redis = await startRestartableRedis();
    onTestFinished(() => redis.close());
    return { url: redis.url, stop: () => redis.stop('SIGKILL'), start: () => redis.start() };
  },
  async postgres(): Promise<RestartableQueue> {
    const postgres = await startRestartablePostgres();
    onTestFinished(() => postgres.close());
    await migrateQueue(postgres.url);
    return { url: postgres.url, stop: () => postgres.stop('fast'), start: () => postgres.start() };
  },
};

const newRun = () => ({ companyId: randomUUID(), runId: randomUUID() });

const producerOn = (queueUrl: string, options: Partial<HeartbeatProducerOptions> = {}) =>
  openProducer({ queueUrl, prefix: 'lessor' }, { publishTimeoutMs: 1_000, ...options });

/** The ids of a queue's jobs, in the order in which they came. */
async function jobsIn(queueUrl: string, ...names: QueueName[]): Promise<string[]> {
  const queues = openQueues(queueUrl, { role: 'consumer', onError: () => undefined });
  const jobs = [];
  for (const name of names) {
    const queue = queues.queue(name);
    jobs.push(...(await queue.getJobs(['waiting'], 0, -1, true)));
    await queue.close();
  }
  await queues.close();
  return jobs.toSorted((one, other) => one.timestamp - other.timestamp).map((job) => job.id!);
}

/** Whether a promise is settled by now. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending');
  return (await Promise.race([promise.catch(() => undefined), Promise.resolve(pending)])) === pending;
}

describe.each(['redis', 'postgres'] as const)('with bufferMs, on %s', (kind) => {
  const isMissing = kind === 'redis' && whyNoRedisServer !== undefined;

  test.skipIf(isMissing)(
    'no-loss: messages published while the queue is unreachable arrive once, in order, when it is back',
    { timeout: 60_000 },
    async () => {
      const queue = await START_QUEUE[kind]();
      const producer = producerOn(queue.url, { bufferMs: 60_000 });
      const before = newRun();
      await producer.runStarted(before);
      await queue.stop();

      const run = newRun();
      const others = Array.from({ length: 150 }, newRun);
      const published: string[] = [];
      const publish = async (publishing: Promise<{ jobId: string }>) => published.push((await publishing).jobId);
      const publishing = [
        publish(producer.runStarted(run)),
        publish(producer.runHeartbeat(run)),
        publish(producer.runFinished({ ...run, status: 'succeeded' })),
        ...others.map((other) => publish(producer.runStarted(other))),
      ];
      await expect(producerOn(queue.url).runStarted(run)).rejects.toBeInstanceOf(QueueUnreachableError);
      expect(await Promise.all(publishing.map(isPending))).not.toContain(false);

      await queue.start();
      await Promise.all(publishing);
      const jobs = await jobsIn(queue.url, 'run-started', 'run-heartbeat', 'run-finished');
      expect(jobs.toSorted()).toEqual([`${before.runId}-started`, ...published].toSorted());
      const ofRun = (jobId: string) => jobId.startsWith(run.runId);
      expect(published.filter(ofRun)).toEqual([
        `${run.runId}-started`,
        expect.stringContaining('-heartbeat-'),
        `${run.runId}-finished`,
      ]);
      expect(jobs.filter(ofRun)).toEqual(published.filter(ofRun));
      await producer.runFinished({ ...before, status: 'succeeded' });
    },
  );

  test('a message whose bufferMs has passed is rejected, and not published later', async () => {
    const url = kind === 'redis' ? 'redis://127.0.0.1' : 'postgres://nobody@127.0.0.1';
    const producer = producerOn(`${url}:${await freePort()}`, { bufferMs: 400 });
    const before = performance.now();
    const run = newRun();
    const settled = await Promise.allSettled([
      producer.runStarted(run),
      producer.runFinished({ ...run, status: 'failed' }),
    ]);
    expect(performance.now() - before).toBeGreaterThanOrEqual(399);
    expect(performance.now() - before).toBeLessThan(1_900);
    for (const { reason } of settled as PromiseRejectedResult[]) expect(reason).toBeInstanceOf(QueueUnreachableError);
    expect(settled[0]).toMatchObject({ reason: { message: expect.stringMatching(/ECONNREFUSED.*400 ms.*QUEUE_URL/) } });
  });
});

const unreachable = async () => `redis://127.0.0.1:${await freePort()}`;

describe('with bufferMs, while the queue is unreachable', () => {
  test('messages beyond bufferLimit are rejected immediately', async () => {
    const producer = producerOn(await unreachable(), { bufferMs: 10_000, bufferLimit: 2 });
    const buffered = [producer.runStarted(newRun()), producer.runStarted(newRun())];
    await until(async () => {
      const error: unknown = await producer.runStarted(newRun()).catch((reason: unknown) => reason);
      return (error as Error).message.startsWith('the queue cannot be reached: the buffer is full with 2 messages');
    });
    expect(await Promise.all(buffered.map(isPending))).toEqual([true, true]);
    const closed = Promise.allSettled(buffered);
    await producer.close();
    await closed;
  });

  test('closing the producer rejects buffered messages, and later ones', async () => {
    const producer = producerOn(await unreachable(), { bufferMs: 10_000 });
    const run = newRun();
    const buffered = Promise.allSettled([
      producer.runStarted(run),
      producer.runFinished({ ...run, status: 'cancelled' }),
    ]);
    const before = performance.now();
    await producer.close();
    const reason = { code: 'queue_unreachable', message: expect.stringContaining('the producer was closed') };
    expect(await buffered).toMatchObject([{ reason }, { reason }]);
    expect(performance.now() - before).toBeLessThan(1_500);
    await expect(producer.runStarted(newRun())).rejects.toMatchObject(reason);
  });

  test('a renewal is buffered no longer than it is waited for', async () => {
    const producer = producerOn(await unreachable(), { bufferMs: 10_000 });
    const before = performance.now();
    await expect(producer.renewLease(newRun(), { timeoutMs: 300 })).rejects.toThrow('300 ms');
    expect(performance.now() - before).toBeLessThan(1_800);
    const stopping = new AbortController();
    const renewing = producer.renewLease(newRun(), { signal: stopping.signal });
    stopping.abort(new Error('not needed any more'));
    await expect(renewing).rejects.toThrow('not needed any more');
  });
});

test.each([{ bufferMs: 0 }, { bufferMs: 1.5 }, { bufferMs: Number.POSITIVE_INFINITY }, { bufferLimit: 0 }])(
  'a producer with %o is rejected',
  (options) => {
    expect(() => producerOn('redis://127.0.0.1', options)).toThrow(InvalidConfigurationError);
  },
);
