import { pino } from 'pino';
import { createWorker } from '../../src/index.ts';
import type { WorkerSettings } from '../../src/index.ts';
import { resolveWorkerSettings } from '../../src/consumers/worker-settings.ts';
import { countUnfinished, openRunQueues, publishBacklog } from '../queued-runs.ts';
import { untilDrained } from '../until-drained.ts';
import type { Phase, Run } from '../workload.ts';
import type { Contender, ContenderStores } from './contender.ts';

const PACKAGES = ['bullmq', 'ioredis', 'pg', 'drizzle-orm'];

/** Lessor with its defaults: jobs as its producer publishes them, processed by its worker. */
export const lessor: Contender = {
  label: 'Lessor on Redis',
  title: 'Lessor on Redis',
  packages: PACKAGES,
  settings: defaultSettings(),
  writesRows: true,
  open: (stores, runs) => openLessor(stores.redisUrl, stores, runs),
};

export const lessorPostgres: Contender = {
  label: 'Lessor on Postgres',
  title: 'Lessor, queue and all in one Postgres',
  packages: PACKAGES,
  settings: defaultSettings(),
  writesRows: true,
  open: (stores, runs) => openLessor(stores.databaseUrl, stores, runs),
};

async function openLessor(queueUrl: string, { databaseUrl }: ContenderStores, runs: readonly Run[]) {
  const worker = await startLessorWorker({ databaseUrl, queueUrl });
  const { queues, close } = openRunQueues(queueUrl);
  let loaded = queues.start;
  return {
    async load(phase: Phase) {
      loaded = queues[phase];
      await loaded.pause();
      await publishBacklog(loaded, phase, runs);
    },
    async drain() {
      const queue = loaded;
      await queue.resume();
      await untilDrained(() => countUnfinished(queue));
    },
    violations: () => [],
    async close() {
      await worker.close();
      await close();
    },
  };
}

/** Starts a worker that logs errors to stderr. */
export async function startLessorWorker(settings: WorkerSettings): Promise<{ close(): Promise<void> }> {
  const worker = createWorker({ ...settings, logger: pino({ level: 'error' }, pino.destination(2)) });
  await worker.start();
  return worker;
}

function defaultSettings(): Record<string, unknown> {
  const url = 'postgres://localhost/';
  const { concurrency, batchSize, batchesInFlight } = resolveWorkerSettings({ databaseUrl: url, queueUrl: url });
  return { concurrency, batchSize, batchesInFlight };
}
