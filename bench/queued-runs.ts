import { FairQueue } from '../src/queues/fairness.ts';
import { JOB_OPTIONS, jobIds } from '../src/queues/job-options.ts';
import { runJobs } from '../src/queues/run-jobs.ts';
import { openQueues } from '../src/queues/queues.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import type { Phase, Run } from './workload.ts';

const JOBS_PER_COMMAND = 500;

/** Lessor's queues of starts and finishes, to publish backlogs and count what is left. */
export type RunQueues = Readonly<Record<Phase, LessorQueue>>;

/** Opens the queues, and closes them once the work has settled. */
export async function withRunQueues<Result>(
  queueUrl: string,
  work: (queues: RunQueues) => Promise<Result>,
): Promise<Result> {
  const { queues, close } = openRunQueues(queueUrl);
  try {
    return await work(queues);
  } finally {
    await close();
  }
}

export function openRunQueues(queueUrl: string): { queues: RunQueues; close: () => Promise<void> } {
  const store = openQueues(queueUrl, { role: 'consumer', onError: (error) => process.emitWarning(error) });
  const queues = { start: store.queue(queueNameOf('start')), finish: store.queue(queueNameOf('finish')) };
  return {
    queues,
    async close() {
      await Promise.all(Object.values(queues).map((queue) => queue.close()));
      await store.close();
    },
  };
}

/** Publishes a backlog to a Lessor queue: the jobs of its producer, many with one command. */
export async function publishBacklog(queue: LessorQueue, phase: Phase, runs: readonly Run[]): Promise<void> {
  const now = new Date();
  const fairQueue = new FairQueue(queue);
  for (let first = 0; first < runs.length; first += JOBS_PER_COMMAND) {
    const page = runs.slice(first, first + JOBS_PER_COMMAND);
    const jobs = page.map((run) =>
      phase === 'start' ? runJobs.started(run, now) : runJobs.finished({ ...run, status: 'succeeded' }, now),
    );
    const positioned = [];
    for (const job of jobs) {
      positioned.push({ ...job, position: await fairQueue.assign(job.payload.companyId, job.jobId) });
    }
    await queue.addBulk(
      positioned.map(({ queue: name, jobId, payload, position: { priority } }) => {
        return { name, data: payload, opts: { ...JOB_OPTIONS[name], jobId, priority } };
      }),
    );
    for (const { position } of positioned) position.confirm(true);
  }
}

/** The queue of the phase's messages. */
export function queueNameOf(phase: Phase): 'run-started' | 'run-finished' {
  return phase === 'start' ? 'run-started' : 'run-finished';
}

/** The id of the job of the run's message. */
export function jobIdOf(phase: Phase, run: Run): string {
  return phase === 'start' ? jobIds.runStarted(run) : jobIds.runFinished(run);
}

/** Jobs that are not done. */
export function countUnfinished(queue: LessorQueue): Promise<number> {
  return queue.getJobCountByTypes('waiting', 'active', 'prioritized', 'delayed');
}
