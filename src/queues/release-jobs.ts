import type { LeaseRelease } from '../contracts/index.ts';
import { DEFAULT_RELEASE_ATTEMPTS, JOB_OPTIONS, jobIds } from './job-options.ts';
import { Publisher } from './publisher.ts';
import type { LessorQueue, Queues } from './queues.ts';
import { withTimeout } from '../lib/abort.ts';

/** Ample for a page of jobs, and short enough that a queue that does not answer does not delay the sweep. */
const DEFAULT_TIMEOUT_MS = 5_000;

/** Restores and retries the jobs that clean up after leases. */
export class ReleaseJobs {
  readonly #publisher: Publisher;
  readonly #attempts: number;
  readonly #timeoutMs: number;

  constructor(queues: Queues, { attempts = DEFAULT_RELEASE_ATTEMPTS, timeoutMs = DEFAULT_TIMEOUT_MS } = {}) {
    this.#publisher = new Publisher(queues, timeoutMs);
    this.#attempts = attempts;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Publishes the jobs that the queue has lost, and returns how many. A job that waits, is delayed or is active is left
   * to its worker, a failed one to an operator. Rejects when the queue does not answer; jobs published by then stay
   * published.
   */
  restore(releases: readonly LeaseRelease[]): Promise<number> {
    return withTimeout(this.#timeoutMs, async (signal) => {
      const queue = await this.#publisher.queue('lease-release', signal);
      let restored = 0;
      for (const release of releases) {
        signal.throwIfAborted();
        if (await restoreJob(queue, release, this.#attempts)) restored += 1;
      }
      return restored;
    });
  }

  /**
   * Retries a release now: a failed job gets all its attempts again, and a delayed one is promoted. Returns false when
   * the job waits or is active already.
   */
  retry(release: LeaseRelease): Promise<boolean> {
    return withTimeout(this.#timeoutMs, async (signal) => {
      const queue = await this.#publisher.queue('lease-release', signal);
      const job = await queue.getJob(jobIds.leaseRelease(release));
      const state = await job?.getState();
      if (state === 'failed') await job!.retry('failed', { resetAttemptsMade: true });
      else if (state === 'delayed') await job!.promote();
      else return restoreJob(queue, release, this.#attempts);
      return true;
    });
  }

  close(): Promise<void> {
    return this.#publisher.close();
  }
}

async function restoreJob(queue: LessorQueue, release: LeaseRelease, attempts: number): Promise<boolean> {
  const jobId = jobIds.leaseRelease(release);
  const state = await queue.getJobState(jobId);
  if (state !== 'unknown' && state !== 'completed') return false;
  // The lease still needs its cleanup, so the completed job did not do it; and it would block its id.
  if (state === 'completed') await queue.remove(jobId);
  await queue.add('lease-release', release, { ...JOB_OPTIONS['lease-release'], attempts, jobId });
  return true;
}
