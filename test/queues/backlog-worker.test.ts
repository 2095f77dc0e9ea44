import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openQueues } from '../../src/queues/queues.ts';
import { until } from '../support/until.ts';
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

    const beforeEnds = await countScripts(server);
    letGo();
    await until(async () => (await queue.getCompletedCount()) === JOBS, { what: 'the end of all jobs' });
    expect((await countScripts(server)) - beforeEnds).toBeLessThan(100);
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
});

/** A queue with a backlog, and a worker for it whose jobs are under way until they are let go. */
async function openBacklog() {
  const server = await startRedisServer(await freePort());
  const errors: Error[] = [];
  const queues = openQueues(`redis://127.0.0.1:${server.port}`, {
    role: 'consumer',
    onError: (error) => errors.push(error),
  });
  onTestFinished(() => queues.close());
  const queue = queues.queue('run-started');
  onTestFinished(() => queue.close());
  const ids = Array.from({ length: JOBS }, () => randomUUID());
  const added = await queue.addBulk(ids.map((jobId) => ({ name: 'run-started', data: { jobId }, opts: { jobId } })));
  expect(added.map(({ id }) => id)).toEqual(ids);

  const begun: (string | undefined)[] = [];
  let letGo: (() => void) | undefined;
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  const worker = queues.worker(
    'run-started',
    async (job) => {
      begun.push(job.id);
      await gate;
      return job.id;
    },
    { concurrency: CONCURRENCY, autorun: false },
  );
  onTestFinished(() => worker.close());
  onTestFinished(() => letGo!());
  await worker.waitUntilReady();
  return { queue, ids, worker, begun, letGo: letGo!, server, errors };
}
