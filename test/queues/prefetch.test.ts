import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { DelayedError } from 'bullmq';
import type { Processor } from 'bullmq';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openQueues } from '../../src/queues/queues.ts';
import { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';
import { countScripts, freePort, startRedisServer, whyNoRedisServer } from './redis-server.ts';

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

const JOBS = 300;
const CONCURRENCY = 200;

describe.skipIf(whyNoRedisServer !== undefined)(`a backlog on Redis${unlessRunnable}`, () => {
  test('is taken up with few commands, first come, first served, and no more of it than the concurrency', async () => {
    const { queue, ids, worker, begun, letGo, server, errors } = await openBacklog();
    const before = await countScripts(server);
    void worker.run();
    await until(() => begun.length === CONCURRENCY, { what: 'as many jobs begun as the concurrency' });
    expect((await countScripts(server)) - before).toBeLessThan(30);
    expect(begun).toEqual(ids.slice(0, CONCURRENCY));
    expect(await queue.getActiveCount()).toBe(CONCURRENCY);

    let completed = 0;
    worker.on('completed', () => (completed += 1));
    const beforeEnds = await countScripts(server);
    letGo();
    await until(() => completed === JOBS, { what: 'the end of all jobs' });
    expect((await countScripts(server)) - beforeEnds).toBeLessThan(100);
    expect(await queue.getCompletedCount()).toBe(JOBS);
    expect(new Set(begun)).toEqual(new Set(ids));
    expect(begun).toHaveLength(JOBS);
    const [job] = await queue.getCompleted();
    expect(job).toMatchObject({ returnvalue: job!.id, attemptsMade: 1 });
    expect(errors).toEqual([]);
  });

  test('no-loss: what was taken up as the worker is paused is carried out', async () => {
    const { queue, worker, begun, letGo } = await openBacklog();
    // The twentieth comes with ten others.
    await new Promise<void>((resolve) => {
      let taken = 0;
      worker.on('active', () => (taken += 1) === 20 && resolve());
      void worker.run();
    });
    letGo();
    await worker.pause();
    expect(await queue.getActiveCount()).toBe(0);
    expect(await queue.getCompletedCount()).toBe(begun.length);
    expect(await queue.getJobCountByTypes('waiting')).toBe(JOBS - begun.length);
  });

  test('is taken up no further than the concurrency, also where jobs are put back meanwhile', async () => {
    const signals = new EventEmitter().setMaxListeners(0);
    let isOver = false;
    const { queue, worker, proxy } = await openQueue(async (job, token) => {
      const isPutBack = job.data === 'put back';
      if (!isOver) await once(signals, isPutBack ? 'put back' : 'end');
      if (!isPutBack) return;
      await job.moveToDelayed(Date.now() + 3_600_000, token);
      throw new DelayedError();
    });
    const add = (count: number, data: string) =>
      queue.addBulk(Array.from({ length: count }, () => ({ name: 'run-started', data })));
    void worker.run();
    await add(50, 'put back');
    await until(() => signals.listenerCount('put back') === 50, { what: 'the jobs that are put back' });
    // Now as many more are asked for at a time as were there the last time, and there is time for others to ask.
    proxy.slow(20);
    await add(3 * CONCURRENCY, 'burst');
    await until(async () => (await queue.getActiveCount()) > 75, { what: 'some of the burst' });
    signals.emit('put back');
    await until(async () => (await queue.getDelayedCount()) === 50, { what: 'being put back' });
    await until(() => signals.listenerCount('end') >= CONCURRENCY, { what: 'as many jobs as the concurrency' });
    expect(await queue.getActiveCount()).toBe(CONCURRENCY);
    isOver = true;
    proxy.heal();
    signals.emit('end');
  });
});

/** A queue with a backlog, and a worker for it whose jobs are under way until they are let go. */
async function openBacklog() {
  const begun: (string | undefined)[] = [];
  let letGo: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  const opened = await openQueue(async (job) => {
    begun.push(job.id);
    await gate;
    return job.id;
  });
  onTestFinished(() => letGo!());
  const ids = Array.from({ length: JOBS }, () => randomUUID());
  const jobs = ids.map((jobId) => ({ name: 'run-started', data: { jobId }, opts: { jobId } }));
  const added = await opened.queue.addBulk(jobs);
  expect(added.map(({ id }) => id)).toEqual(ids);
  return { ...opened, ids, begun, letGo: letGo! };
}

/** A queue on a Redis of its own, and a worker for it that is not at work yet, behind a proxy. */
async function openQueue(processor: Processor<unknown, unknown>) {
  const server = await startRedisServer(await freePort());
  const errors: Error[] = [];
  const onError = (error: Error) => errors.push(error);
  const url = `redis://127.0.0.1:${server.port}`;
  const proxy = await TcpProxy.inFrontOf(url);
  onTestFinished(() => proxy.close());
  const open = (queueUrl: string) => {
    const queues = openQueues(queueUrl, { role: 'consumer', onError });
    onTestFinished(() => queues.close());
    return queues;
  };
  const queue = open(url).queue('run-started');
  onTestFinished(() => queue.close());
  const worker = open(proxy.urlFor(url)).worker('run-started', processor, { concurrency: CONCURRENCY, autorun: false });
  onTestFinished(() => worker.close());
  await worker.waitUntilReady();
  return { queue, worker, server, proxy, errors };
}
