import type { LeaseRelease } from '../contracts/index.ts';
import { jobIds } from './names.ts';
import { Publisher } from './publisher.ts';
import type { LessorQueue, Queues } from './queues.ts';
import { DEFAULT_RELEASE_ATTEMPTS, JOB_OPTIONS } from './retry-policy.ts';
import { withTimeout } from '../lib/abort.ts';

/** Long for a page of jobs, and short enough for a sweep not to be held up by a queue that does not answer. */
const DEFAULT_TIMEOUT_MS = 5_000;

/** The jobs that clean up after leases. */
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
   * Publishes the jobs again that the queue has lost, and returns how many. One that waits, is delayed or is being
   * worked on is on its way, and a failed one stays for an operator to retry. Rejects when the queue does not answer;
   * what was published until then stays published.
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
   * Has a release tried now: one that has failed for good is given all its attempts anew, and one that waits for its next
   * attempt waits no longer. Returns false for one that is being tried already.
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
  // A job that was completed while its lease waits still did not do it, and would keep its id from being used again.
  if (state === 'completed') await queue.remove(jobId);
  await queue.add('lease-release', release, { ...JOB_OPTIONS['lease-release'], attempts, jobId });
  return true;
}
