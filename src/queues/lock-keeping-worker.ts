import { Worker } from 'bullmq';
import type { IQueueBackend, Job, JobJson, JobProgress } from 'bullmq';
import type { StoreReference } from './store.ts';

/**
 * BullMQ's worker takes up jobs, one command each, until it has as many as its concurrency, then begins the first, and
 * renews a job's lock only from when that has begun. Where commands are slow the locks of the first lapse before that,
 * and the worker takes its own jobs for those of a dead one, again and again. This one renews the lock of every job that
 * it has taken up.
 */
export class LockKeepingWorker extends Worker<unknown, unknown, string, IQueueBackend, JobProgress, StoreReference> {
  protected override async nextJobFromJobData(
    jobData?: JobJson,
    jobId?: string,
    token?: string,
  ): Promise<Job<unknown, unknown>> {
    const job = await super.nextJobFromJobData(jobData, jobId, token);
    if (job?.id !== undefined && token !== undefined) this.lockManager.trackJob(job.id, token, job.processedOn ?? 0);
    return job;
  }
}
