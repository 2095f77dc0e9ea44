import { setImmediate as afterThisTurn, setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'bullmq';
import type { AsyncFifoQueue, IQueueBackend, Job, JobJson, JobProgress } from 'bullmq';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';
import type { BackendReference } from './backends/backend.ts';

type FetchedJob = Job<unknown, unknown> | undefined;

/** The prefetch grows by this factor each time that all requested jobs were there. */
const PREFETCH_GROWTH = 1.5;

/**
 * BullMQ's worker with three changes:
 *
 * - **Prefetch.** BullMQ fetches one job per round trip until it has as many as its concurrency, and only then starts the
 *   first: with hundreds of them a burst waits for 100 ms and more. Here one command fetches several, up to the backend's
 *   `maxPrefetch`. The number grows while the queue holds as many as requested, and returns to 1 when it is empty.
 * - **Locks are renewed from the fetch on.** BullMQ renews a job's lock from when its processor starts. Where commands
 *   are slow, the locks of the first fetched jobs would expire before that, and the worker would recover its own jobs as
 *   stalled, again and again.
 * - **Completion is retried.** When a completed job cannot be reported to the queue, BullMQ fails it, which counts as an
 *   attempt, unless it got ECONNREFUSED. Here the report is retried until the lock may have expired.
 */
export class LessorWorker extends Worker<unknown, unknown, string, IQueueBackend, JobProgress, BackendReference> {
  #prefetch = 1;
  /** Jobs being fetched beyond those that have a slot in BullMQ's main loop. */
  #extraFetches = 0;
  #issuedTokens = 0;

  /** Returns one job to the caller and hands the others to BullMQ's main loop, as if it had fetched them. */
  protected override async moveToActive(token: string, name?: string): Promise<Job<unknown, unknown>> {
    const count = this.#fetchCount();
    this.#extraFetches += count - 1;
    const tokens = [token, ...Array.from({ length: count - 1 }, () => this.#newToken())];
    const settled = await Promise.allSettled<FetchedJob>(tokens.map((each) => super.moveToActive(each, name)));
    this.#extraFetches -= count - 1;
    const fetched = settled.flatMap((each) => (each.status === 'fulfilled' && each.value ? [each.value] : []));
    if (fetched.length === count && count >= Math.floor(this.#prefetch)) this.#growPrefetch();
    const failed = settled.find((each) => each.status === 'rejected');
    const own = failed === undefined ? fetched.shift() : undefined;
    // The returned job takes its slot in this turn of the event loop; the others must not take it first.
    for (const other of fetched) this.#mainLoopQueue()!.add(afterThisTurn(other));
    if (failed !== undefined) throw failed.reason;
    return own!;
  }

  protected override async nextJobFromJobData(
    jobData?: JobJson,
    jobId?: string,
    token?: string,
  ): Promise<Job<unknown, unknown>> {
    if (!jobData) this.#prefetch = 1;
    const job = await super.nextJobFromJobData(jobData, jobId, token);
    if (job?.id !== undefined && token !== undefined) this.lockManager.trackJob(job.id, token, job.processedOn ?? 0);
    return job;
  }

  protected override async handleCompleted(
    ...completion: Parameters<Worker<unknown, unknown>['handleCompleted']>
  ): Promise<Job<unknown, unknown>> {
    const lockExpiresAt = performance.now() + (this.opts.lockDuration ?? 0);
    for (let failures = 1; ; failures += 1) {
      try {
        return await super.handleCompleted(...completion);
      } catch (error) {
        const delayMs = backoffDelay(failures, RECONNECT_BACKOFF);
        if (isJobError(error) || performance.now() + delayMs >= lockExpiresAt) throw error;
        this.emit('error', error as Error);
        await sleep(delayMs, undefined, { ref: false });
      }
    }
  }

  #fetchCount(): number {
    const loop = this.#mainLoopQueue();
    if (loop === null) return 1;
    const free = this.concurrency - loop.numTotal() - this.#extraFetches;
    return Math.max(1, Math.min(Math.floor(this.#prefetch), free));
  }

  #growPrefetch(): void {
    this.#prefetch = Math.min(this.#prefetch * PREFETCH_GROWTH, this.opts.connection.maxPrefetch);
  }

  /** Each fetch has a token of its own: with a shared one, the worker could not tell that it lost one job's lock. */
  #newToken(): string {
    this.#issuedTokens += 1;
    return `${this.id}:prefetch:${this.#issuedTokens}`;
  }

  /** BullMQ's fetched and running jobs. The worker processes the fetched ones even while it closes. */
  #mainLoopQueue(): AsyncFifoQueue<FetchedJob> | null {
    return (this as unknown as { mainLoopQueue: AsyncFifoQueue<FetchedJob> | null }).mainLoopQueue;
  }
}

/** Whether the queue answered and rejected the command: BullMQ's errors about a job have a number as code. */
function isJobError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}
