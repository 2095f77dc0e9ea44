import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'bullmq';
import type { IQueueBackend, Job, JobJson, JobProgress } from 'bullmq';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';
import type { StoreReference } from './store.ts';

/**
 * BullMQ's worker, which makes what it can of the lock that it has on a job.
 *
 * BullMQ takes up jobs, one command each, until it has as many as its concurrency, then begins the first, and renews a
 * job's lock only from when that has begun. Where commands are slow the locks of the first lapse before that, and the
 * worker takes its own jobs for those of a dead one, again and again. This one renews the lock of every job that it has
 * taken up.
 *
 * BullMQ also takes a job for failed, and one of its attempts for spent, when the queue cannot be told that it is done,
 * unless it finds the connection refused. This one tells it again for as long as the lock may last.
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

  protected override async handleCompleted(
    ...completion: Parameters<Worker<unknown, unknown>['handleCompleted']>
  ): Promise<Job<unknown, unknown>> {
    const lockLapsesAt = performance.now() + (this.opts.lockDuration ?? 0);
    for (let failures = 1; ; failures += 1) {
      try {
        return await super.handleCompleted(...completion);
      } catch (error) {
        const pauseMs = backoffDelay(failures, RECONNECT_BACKOFF);
        if (isVerdict(error) || performance.now() + pauseMs >= lockLapsesAt) throw error;
        this.emit('error', error as Error);
        await sleep(pauseMs, undefined, { ref: false });
      }
    }
  }
}

/** BullMQ numbers what it finds wrong with a job, as that it is not active any more; stores name what is wrong with them. */
function isVerdict(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}
