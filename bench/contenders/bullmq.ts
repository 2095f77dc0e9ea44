import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { queueNameOf } from '../queued-runs.ts';
import { untilDrained } from '../until-drained.ts';
import { finishOf, startOf } from '../workload.ts';
import type { Phase, Run } from '../workload.ts';

/** BullMQ as its documentation shows it, without any part of Lessor. */

const JOBS_PER_COMMAND = 500;

/** Two queues and their workers, and the messages of some runs. */
export interface BullMq {
  load(phase: Phase): Promise<void>;
  drain(): Promise<void>;
  close(): Promise<void>;
}

export async function openBullMq(
  redisUrl: string,
  concurrency: number,
  runs: readonly Run[],
  process: (phase: Phase, run: Run) => Promise<void>,
): Promise<BullMq> {
  const connection = new Redis(redisUrl, { maxRetriesPerRequest: null });
  const phases = ['start', 'finish'] as const;
  const queues = new Map(phases.map((phase) => [phase, new Queue(queueNameOf(phase), { connection })]));
  const workers = phases.map(
    (phase) => new Worker<Run>(queueNameOf(phase), (job) => process(phase, job.data), { connection, concurrency }),
  );
  for (const worker of workers) worker.on('error', (error) => globalThis.process.emitWarning(error));
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  let loaded: Queue | undefined;
  return {
    async load(phase) {
      loaded = queues.get(phase)!;
      await loaded.pause();
      const toMessage = phase === 'start' ? startOf : finishOf;
      for (let first = 0; first < runs.length; first += JOBS_PER_COMMAND) {
        const page = runs.slice(first, first + JOBS_PER_COMMAND);
        await loaded.addBulk(page.map((run) => ({ name: queueNameOf(phase), data: toMessage(run) })));
      }
    },
    async drain() {
      const queue = loaded!;
      await queue.resume();
      await untilDrained(() => queue.getJobCountByTypes('waiting', 'active', 'delayed'));
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.close()));
      await Promise.all([...queues.values()].map((queue) => queue.close()));
      connection.disconnect();
    },
  };
}
