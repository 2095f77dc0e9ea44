import { pino } from 'pino';
import { createWorker } from '../../src/index.ts';
import type { WorkerSettings } from '../../src/index.ts';
import { resolveWorkerSettings } from '../../src/consumers/worker-settings.ts';
import { countUnfinished, openRunQueues, publishBacklog } from '../queued-runs.ts';
import { untilDrained } from '../until-drained.ts';
import type { Phase, Run } from '../workload.ts';
import type { Contender, Surroundings } from './contender.ts';

const PACKAGES = ['bullmq', 'ioredis', 'pg', 'drizzle-orm'];

/** Lessor as it is: the jobs that its producer publishes are worked off by its worker, both with their defaults. */
export const lessor: Contender = {
  label: 'Lessor on Redis',
  title: 'Lessor on Redis',
  packages: PACKAGES,
  settings: defaultSettings(),
  writesRows: true,
  open: (where, runs) => openLessor(where.redisUrl, where, runs),
};

export const lessorPostgres: Contender = {
  label: 'Lessor on Postgres',
  title: 'Lessor, queue and all in one Postgres',
  packages: PACKAGES,
  settings: defaultSettings(),
  writesRows: true,
  open: (where, runs) => openLessor(where.databaseUrl, where, runs),
};

async function openLessor(queueUrl: string, { databaseUrl }: Surroundings, runs: readonly Run[]) {
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

/** Starts a worker that tells errors on stderr. */
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
