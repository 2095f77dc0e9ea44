import type { Sql } from 'postgres';
import type { QueueName } from '../../src/queues/job-options.ts';
import type { LessorQueue } from '../../src/queues/queues.ts';
import { openProducer } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import type { NodeProcess } from '../../testing/processes.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOnce, untilAllCompleted, untilEffects } from './effects.ts';
import { openProxies } from './proxies.ts';
import type { ProxiedStores } from './proxies.ts';

/** Jobs of a killed worker are soon recovered. */
export const SHORT_LOCKS = ['--lock-duration', '1s'] as const;

/** How many runs end, and how many start, while the worker is interrupted. */
const RUNS = 10;

/** A worker that has processed some starts, to be interrupted while it processes the next jobs. */
export interface InterruptedWorker {
  worker: NodeProcess;
  stores: ProxiedStores;
  companyId: string;
  runIds: readonly string[];
  /** The effects of the runs before the interruption, and once every job is completed. */
  before: ReturnType<typeof effectsOnce>;
  after: ReturnType<typeof effectsOnce>;
  /** Publishes ends of the started runs and starts of others, and waits until the worker has fetched all of them. */
  publishUntilActive(): Promise<void>;
}

/** Starts a worker for the runs of one company, whose connections go through proxies. */
export async function startInterruptedWorker(
  backend: Backend,
  queue: (name: QueueName) => LessorQueue,
): Promise<InterruptedWorker> {
  const { sql }: { sql: Sql } = backend.database;
  const companyId = await insertCompany(sql);
  const [ending, starting] = [0, 1].map(() => Array.from({ length: RUNS }, () => runStarted({ companyId }))) as [
    ReturnType<typeof runStarted>[],
    ReturnType<typeof runStarted>[],
  ];
  const runIds = [...ending, ...starting].map((run) => run.runId);
  const producer = openProducer(backend);

  const stores = await openProxies(backend);
  const worker = spawnWorker(stores, SHORT_LOCKS);
  await worker.untilLogged('worker started');
  await Promise.all(ending.map((run) => producer.runStarted(run)));
  await untilEffects(sql, runIds, effectsOnce(RUNS, 0));
  await untilAllCompleted(queue);

  return {
    worker,
    stores,
    companyId,
    runIds,
    before: effectsOnce(RUNS, 0),
    after: effectsOnce(2 * RUNS, RUNS),
    async publishUntilActive() {
      const ends = ending.map(({ runId }) => producer.runFinished({ companyId, runId, status: 'succeeded' }));
      await Promise.all([...ends, ...starting.map((run) => producer.runStarted(run))]);
      await until(async () => (await activeJobs(queue)) === 2 * RUNS, { what: 'every job being active' });
    },
  };
}

/** Jobs that a worker has fetched and not acknowledged. */
export async function activeJobs(queue: (name: QueueName) => LessorQueue): Promise<number> {
  const counts = await Promise.all([queue('run-started').getActiveCount(), queue('run-finished').getActiveCount()]);
  return counts[0] + counts[1];
}
