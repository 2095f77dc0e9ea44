import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test, vi } from 'vitest';
import { SweepSchedule } from '../../../src/consumers/sweep/schedule.ts';
import { openQueues } from '../../../src/queues/queues.ts';
import { describeOnEachBackend } from '../../support/queues.ts';
import { until } from '../../../testing/until.ts';
import { freePort } from '../../queues/redis-server.ts';
import { silentLogger, startWorker, useQueues } from '../fixture.ts';

const EVERY_MS = 100;

/** The schedule of one replica. It is not started, and closed after the test. */
function newSchedule(queueUrl: string, prefix: string) {
  const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: () => undefined });
  const sweep = vi.fn<() => Promise<void>>(async () => undefined);
  const now = vi.fn<() => number>(() => Date.now());
  const schedule = new SweepSchedule({
    queue: queues.queue('lease-sweep'),
    everyMs: EVERY_MS,
    sweep,
    logger: silentLogger,
    now,
    random: () => 0,
  });
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= schedule.close().then(() => queues.close());
    return closing;
  };
  onTestFinished(close);
  return { schedule, sweep, now, close };
}

describeOnEachBackend('the sweep schedule', (backend) => {
  const queue = useQueues(backend);
  const scheduler = () => queue('lease-sweep').getJobScheduler('lease-sweep');
  const clear = async () => {
    await queue('lease-sweep').removeJobScheduler('lease-sweep');
    await queue('lease-sweep').obliterate({ force: true });
  };
  /** Starts a schedule, and waits until the queue has it. */
  const startSchedule = async () => {
    await clear();
    const started = newSchedule(backend.queueUrl, backend.prefix);
    started.schedule.start();
    await until(async () => (await scheduler())?.every === EVERY_MS, { what: 'the schedule being in the queue' });
    return started;
  };

  test('no-leak: is restored after the queue has lost it', async () => {
    await startSchedule();
    await clear();
    expect(await until(scheduler, { what: 'the schedule being restored' })).toMatchObject({ every: EVERY_MS });
    expect(await queue('lease-sweep').getJobCountByTypes('delayed', 'waiting', 'active')).toBe(1);
  });

  test('is unchanged while the queue has it, even with the interval of another replica', async () => {
    const { now } = await startSchedule();
    await queue('lease-sweep').upsertJobScheduler('lease-sweep', { every: 60_000 });
    const before = await scheduler();
    now.mockClear();
    await until(() => now.mock.calls.length >= 3, { what: 'three checks of the schedule' });
    expect(await scheduler()).toEqual(before);
  });

  test('no-leak: is corrected when its next sweep is far in the future', async () => {
    await clear();
    const inAnHour = Date.now() + 60 * 60 * 1_000;
    await queue('lease-sweep').upsertJobScheduler('lease-sweep', { every: EVERY_MS, startDate: inAnHour });
    newSchedule(backend.queueUrl, backend.prefix).schedule.start();
    const next = await until(async () => {
      const at = (await scheduler())?.next ?? inAnHour;
      return at < inAnHour && at;
    });
    expect(next).toBeLessThan(inAnHour - 30 * 60 * 1_000);
  });

  test('no-leak: continues after the queue has lost the next sweep', async () => {
    await startSchedule();
    const lost = await until(async () => (await queue('lease-sweep').getJobs(['delayed', 'waiting']))[0]);
    const { next } = (await scheduler())!;
    await queue('lease-sweep').obliterate({ force: true });
    expect(lost.name).toBe('lease-sweep');
    await until(async () => (await scheduler())!.next !== next, { what: 'a later sweep' });
    expect(await queue('lease-sweep').getJobCountByTypes('delayed', 'waiting')).toBe(1);
  });

  test('no-leak: a running worker sweeps again after the queue has lost the schedule', async () => {
    await startWorker(backend, { sweepIntervalMs: EVERY_MS });
    const sweeps = () => queue('lease-sweep').getJobCountByTypes('completed');
    await until(async () => (await sweeps()) > 0, { what: 'a sweep' });
    await queue('lease-sweep').removeJobScheduler('lease-sweep');
    await queue('lease-sweep').clean(0, 1_000, 'completed');
    expect(await until(async () => (await sweeps()) > 1, { what: 'two more sweeps' })).toBe(true);
  });
});

test('no-leak: a replica sweeps directly, once an interval, while the queue is unreachable', async () => {
  const { schedule, sweep, close } = newSchedule(`redis://127.0.0.1:${await freePort()}`, randomUUID());
  sweep.mockRejectedValueOnce(new Error('Postgres said no'));
  schedule.start();
  await until(() => sweep.mock.calls.length >= 3, { what: 'three sweeps' });
  const before = performance.now();
  await close();
  expect(performance.now() - before).toBeLessThan(1_000);
  const swept = sweep.mock.calls.length;
  await expect(until(() => sweep.mock.calls.length > swept, { timeoutMs: 3 * EVERY_MS })).rejects.toThrow('3');
});
