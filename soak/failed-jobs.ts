import { parseRejection } from '../src/contracts/index.ts';
import type { LessorQueue } from '../src/queues/queues.ts';

const JOBS_PER_PAGE = 500;

/** Jobs in the failed sets that no plan meant to fail, each with its reason. */
export async function* findFailedJobs(queues: readonly LessorQueue[]): AsyncGenerator<string> {
  for (const queue of queues) {
    for (let start = 0; ; start += JOBS_PER_PAGE) {
      const jobs = await queue.getFailed(start, start + JOBS_PER_PAGE - 1);
      for (const job of jobs) {
        const isPlanned =
          queue.name === 'run-started' && parseRejection(job.failedReason)?.code === 'unknown_environment';
        if (!isPlanned) yield `${queue.name} job ${job.id}: ${job.failedReason}`;
      }
      if (jobs.length < JOBS_PER_PAGE) break;
    }
  }
}
