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
  test('is fetched with few commands, in order, and only up to the concurrency', async () => {
    const { queue, ids, worker, started, release, server, errors } = await openBacklog();
    const before = await countScripts(server);
    void worker.run();
    await until(() => started.length === CONCURRENCY, { what: 'as many jobs started as the concurrency' });
    expect((await countScripts(server)) - before).toBeLessThan(30);
    expect(started).toEqual(ids.slice(0, CONCURRENCY));
    expect(await queue.getActiveCount()).toBe(CONCURRENCY);

    let completed = 0;
    worker.on('completed', () => (completed += 1));
    const beforeEnds = await countScripts(server);
    release();
    await until(() => completed === JOBS, { what: 'the end of all jobs' });
    expect((await countScripts(server)) - beforeEnds).toBeLessThan(100);
    expect(await queue.getCompletedCount()).toBe(JOBS);
    expect(new Set(started)).toEqual(new Set(ids));
    expect(started).toHaveLength(JOBS);
    const [job] = await queue.getCompleted();
    expect(job).toMatchObject({ returnvalue: job!.id, attemptsMade: 1 });
    expect(errors).toEqual([]);
  });

  test('no-loss: jobs fetched while the worker is being paused are processed', async () => {
    const { queue, worker, started, release } = await openBacklog();
    // The twentieth is fetched together with ten others.
    await new Promise<void>((resolve) => {
      let taken = 0;
      worker.on('active', () => (taken += 1) === 20 && resolve());
      void worker.run();
    });
    release();
    await worker.pause();
    expect(await queue.getActiveCount()).toBe(0);
    expect(await queue.getCompletedCount()).toBe(started.length);
    expect(await queue.getJobCountByTypes('waiting')).toBe(JOBS - started.length);
  });

  test('is fetched only up to the concurrency, also while jobs are delayed', async () => {
    const signals = new EventEmitter().setMaxListeners(0);
    let isOver = false;
    const { queue, worker, proxy } = await openQueue(async (job, token) => {
      const isDelayed = job.data === 'delayed';
      if (!isOver) await once(signals, isDelayed ? 'delayed' : 'end');
      if (!isDelayed) return;
      await job.moveToDelayed(Date.now() + 3_600_000, token);
      throw new DelayedError();
    });
    const add = (count: number, data: string) =>
      queue.addBulk(Array.from({ length: count }, () => ({ name: 'run-started', data })));
    void worker.run();
    await add(50, 'delayed');
    await until(() => signals.listenerCount('delayed') === 50, { what: 'the jobs that are put back' });
    // The prefetch has grown; the delay lets several fetches overlap.
    proxy.slow(20);
    await add(3 * CONCURRENCY, 'burst');
    await until(async () => (await queue.getActiveCount()) > 75, { what: 'some of the burst' });
    signals.emit('delayed');
    await until(async () => (await queue.getDelayedCount()) === 50, { what: 'being put back' });
    await until(() => signals.listenerCount('end') >= CONCURRENCY, { what: 'as many jobs as the concurrency' });
    expect(await queue.getActiveCount()).toBe(CONCURRENCY);
    isOver = true;
    proxy.heal();
    signals.emit('end');
  });
});

/** A queue with a backlog, and a worker whose jobs run until they are released. */
async function openBacklog() {
  const started: (string | undefined)[] = [];
  let release: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const opened = await openQueue(async (job) => {
    started.push(job.id);
    await gate;
    return job.id;
  });
  onTestFinished(() => release!());
  const ids = Array.from({ length: JOBS }, () => randomUUID());
  const jobs = ids.map((jobId) => ({ name: 'run-started', data: { jobId }, opts: { jobId } }));
  const added = await opened.queue.addBulk(jobs);
  expect(added.map(({ id }) => id)).toEqual(ids);
  return { ...opened, ids, started, release: release! };
}

/** A queue on a Redis of its own, and a worker behind a proxy that does not run yet. */
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
