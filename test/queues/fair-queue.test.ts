import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { jobInState, openProducer, useQueues } from '../consumers/fixture.ts';
import { FairQueue, QUANTUM } from '../../src/queues/fairness.ts';
import { openQueues } from '../../src/queues/queues.ts';
import type { LessorQueue } from '../../src/queues/queues.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';

const newRun = (companyId: string = randomUUID()) => ({ companyId, runId: randomUUID() });

const runsOf = (companyId: string, count: number) => Array.from({ length: count }, () => newRun(companyId));

/** Takes so many jobs, one after the other, and returns the runs they were about. Those are done then. */
async function serve({ queueUrl, prefix }: Backend, jobs: number): Promise<string[]> {
  const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: () => undefined });
  const served: string[] = [];
  const worker = queues.worker(
    'run-started',
    async ({ data }) => {
      served.push((data as { runId: string }).runId);
      if (served.length === jobs) void worker.pause(true);
    },
    { concurrency: 1 },
  );
  await until(() => served.length >= jobs, { what: `${jobs} jobs being served` });
  await worker.close();
  await queues.close();
  return served.slice(0, jobs);
}

const countWaiting = (queue: LessorQueue) => queue.getJobCountByTypes('waiting', 'prioritized');

/** Publishes heartbeats as producers do, with a clock to set: the test makes their state stale. */
async function onEmptyQueue(queue: LessorQueue) {
  await queue.drain();
  let now = 0;
  const newPublisher = () => {
    const fairQueue = new FairQueue(queue, () => now);
    return async (companyId: string, jobs = 1): Promise<number[]> => {
      const priorities: number[] = [];
      for (let job = 0; job < jobs; job += 1) {
        const jobId = randomUUID();
        const { priority, confirm } = await fairQueue.assign(companyId, jobId);
        await queue.add('run-heartbeat', { companyId }, { jobId, priority });
        confirm(true);
        priorities.push(priority);
      }
      return priorities;
    };
  };
  return { newPublisher, pass: (milliseconds: number) => (now += milliseconds) };
}

describeOnEachBackend('fair', (backend) => {
  const queueOf = useQueues(backend);

  test("a company's single run passes another company's backlog, and that company's runs keep their order", async () => {
    const producer = openProducer(backend);
    const backlog = runsOf(randomUUID(), 5 * QUANTUM);
    for (const run of backlog) await producer.runStarted(run);
    const single = newRun();
    await producer.runStarted(single);
    expect(await countWaiting(queueOf('run-started'))).toBe(backlog.length + 1);

    const served = await serve(backend, backlog.length + 1);
    expect(served.indexOf(single.runId)).toBeLessThanOrEqual(QUANTUM);
    expect(served.filter((runId) => runId !== single.runId)).toEqual(backlog.map(({ runId }) => runId));
  });

  test("a company's single run passes a backlog also when published later, by a new producer", async () => {
    const backlog = runsOf(randomUUID(), 8 * QUANTUM);
    const producer = openProducer(backend);
    for (const run of backlog) await producer.runStarted(run);
    await serve(backend, 3 * QUANTUM);
    const single = newRun();
    await openProducer(backend).runStarted(single);
    // A worker that is paused may have had another job in flight.
    const left = await countWaiting(queueOf('run-started'));
    const served = await serve(backend, left);
    expect(served.indexOf(single.runId)).toBeLessThanOrEqual(QUANTUM);
    expect(served.indexOf(single.runId)).toBeGreaterThanOrEqual(0);
  });

  test('a retried job keeps its priority', async () => {
    const queue = queueOf('run-heartbeat');
    await onEmptyQueue(queue);
    const { id } = await queue.add('run-heartbeat', {}, { priority: 5, attempts: 2 });
    const queues = openQueues(backend.queueUrl, {
      role: 'consumer',
      prefix: backend.prefix,
      onError: () => undefined,
    });
    onTestFinished(() => queues.close());
    const worker = queues.worker(
      'run-heartbeat',
      async () => {
        void worker.pause(true);
        throw new Error('once more');
      },
      { concurrency: 1 },
    );
    onTestFinished(() => worker.close());
    await until(async () => (await queue.getJob(id!))?.attemptsMade === 1, { what: 'an attempt' });
    expect((await jobInState(queue, id!, 'prioritized')).priority).toBe(5);
  });

  test('jobs have no priority while nothing waits, and are served first come, first served', async () => {
    const queue = queueOf('run-heartbeat');
    const publish = (await onEmptyQueue(queue)).newPublisher();
    for (const companyId of ['A', 'B', 'C']) expect(await publish(companyId)).toEqual([0]);
    expect(await queue.getJobCounts('waiting', 'prioritized')).toEqual({ waiting: 3, prioritized: 0 });
  });

  test('rounds restart after the queue was empty', async () => {
    const queue = queueOf('run-heartbeat');
    const { newPublisher, pass } = await onEmptyQueue(queue);
    const publish = newPublisher();
    expect((await publish('A', 2 * QUANTUM + 1)).at(-1)).toBe(2);
    await queue.drain();
    pass(1_000);
    expect(await publish('A')).toEqual([0]);
  });

  test('a company whose jobs have ended restarts at the current round, even if no refresh found the queue empty', async () => {
    const queue = queueOf('run-heartbeat');
    const { newPublisher, pass } = await onEmptyQueue(queue);
    const publish = newPublisher();
    expect((await publish('A', 3 * QUANTUM + 1)).at(-1)).toBe(3);
    await queue.drain();
    await newPublisher()('B', 2 * QUANTUM + 1);
    pass(1_000);
    expect(await publish('A')).toEqual([0]);
  });

  test('a company whose jobs wait keeps its round', async () => {
    const { newPublisher, pass } = await onEmptyQueue(queueOf('run-heartbeat'));
    const publish = newPublisher();
    await publish('A', 3 * QUANTUM + 1);
    pass(1_000);
    expect(await publish('A')).toEqual([3]);
  });

  test('jobs that clients publish without a priority do not reset the current round', async () => {
    const queue = queueOf('run-heartbeat');
    const { newPublisher } = await onEmptyQueue(queue);
    await queue.add('run-heartbeat', {}, { priority: 70 });
    await queue.add('run-heartbeat', {});
    expect(await newPublisher()('A')).toEqual([70]);
  });

  test('the state is refreshed in the background while jobs are published, and before publishing after an idle second', async () => {
    const queue = queueOf('run-heartbeat');
    await onEmptyQueue(queue);
    let now = 0;
    const fairQueue = new FairQueue(queue, () => now);
    const roundOfNewCompany = async () => {
      const { priority, confirm } = await fairQueue.assign(randomUUID(), randomUUID());
      confirm(false);
      return priority;
    };
    const setCurrentRound = async (priority: number) => {
      await queue.drain();
      await queue.add('run-heartbeat', {}, { priority });
    };
    await setCurrentRound(70);
    expect(await roundOfNewCompany()).toBe(70);
    await setCurrentRound(80);
    expect(await roundOfNewCompany()).toBe(70);
    now += 100;
    await until(async () => (await roundOfNewCompany()) === 80);
    await setCurrentRound(90);
    now += 1_000;
    expect(await roundOfNewCompany()).toBe(90);
  });

  test('a paused queue does not count as empty', async () => {
    const queue = queueOf('run-heartbeat');
    const { newPublisher, pass } = await onEmptyQueue(queue);
    await queue.pause();
    onTestFinished(() => queue.resume());
    const publish = newPublisher();
    const priorities: number[] = [];
    for (let job = 0; job <= QUANTUM; job += 1) {
      priorities.push(...(await publish('A')));
      pass(1_000);
    }
    expect(priorities).toEqual([...Array<number>(QUANTUM).fill(0), 1]);
  });
});
