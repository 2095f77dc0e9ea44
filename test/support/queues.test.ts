import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { openQueues } from '../../src/queues/queues.ts';
import { describeOnEachBackend } from './queues.ts';
import { until } from '../../testing/until.ts';

const prefixes: string[] = [];

describeOnEachBackend('queues of a test suite', (backend) => {
  test('are isolated, and hold the jobs that are added', async () => {
    const errors: Error[] = [];
    const queues = openQueues(backend.queueUrl, {
      role: 'consumer',
      prefix: backend.prefix,
      onError: (error) => errors.push(error),
    });
    onTestFinished(() => queues.close());
    await queues.ping();
    const queue = queues.queue('run-heartbeat');
    onTestFinished(() => queue.close());
    expect(queues.kind).toBe(backend.kind);
    expect(await queue.getJobCounts('waiting')).toEqual({ waiting: 0 });
    await queue.add('run-heartbeat', { a: 1 });
    expect(await queue.getJobCounts('waiting')).toEqual({ waiting: 1 });
    expect(errors).toEqual([]);
  });

  test('come with a database of the suite', async () => {
    expect(await backend.database.sql`select from lessor.companies`).toHaveLength(0);
    prefixes.push(`${backend.queueUrl} ${backend.prefix}`);
  });
});

test('the Redis keys of a test suite are removed after it', async () => {
  for (const [url, prefix] of prefixes.map((line) => line.split(' '))) {
    if (!url?.startsWith('redis')) continue;
    const redis = new Redis(url);
    onTestFinished(() => redis.disconnect());
    const { 1: keys } = await redis.scan('0', 'MATCH', `${prefix}:*`, 'COUNT', 1_000_000);
    expect(keys).toEqual([]);
  }
  expect(prefixes).not.toEqual([]);
});

test('until resolves to what the condition does, once it neither throws nor is falsy', async () => {
  let calls = 0;
  const condition = () => {
    calls += 1;
    if (calls === 1) throw new Error('not yet');
    return calls > 3 && `call ${calls}`;
  };
  expect(await until(condition, { intervalMs: 1 })).toBe('call 4');
});

test('until gives up in time, and says how the condition stood', async () => {
  const brief = { timeoutMs: 10, intervalMs: 1 };
  await expect(until(() => 0, { ...brief, what: 'the answer' })).rejects.toThrow(
    'the answer did not come true within 10 ms; at last it was 0',
  );
  await expect(until(() => Promise.reject(new Error('no answer')), brief)).rejects.toThrow(
    'the condition did not come true within 10 ms; at last it threw: no answer',
  );
});
