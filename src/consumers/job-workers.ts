import { setTimeout as sleep } from 'node:timers/promises';
import type { Processor } from 'bullmq';
import type { Logger } from 'pino';
import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';
import { jobRetention, retrySettings } from '../queues/job-options.ts';
import type { LessorWorker, Queues } from '../queues/queues.ts';
import { describeError } from './error-serializer.ts';
import { HANDLERS } from './handlers.ts';
import { createJobProcessor } from './job-attempt.ts';
import type { Committer } from './committer.ts';
import { PoisonQuarantine } from './poison-quarantine.ts';
import type { ResolvedWorkerSettings } from './worker-settings.ts';

/**
 * Stalled-job recoveries after which BullMQ fails a job without another attempt. Far above what restarts cause: the
 * quarantine finds a poison pill after 5, unless it crashes the replica before the attempt begins, as one that does not
 * fit into memory does. This is the bound for those.
 */
const MAX_RECOVERIES = 50;

/** The pause of BullMQ after a failed command, as while the queue is unreachable; its default is 15 seconds. */
const RETRY_COMMAND_MS = 1_000;

/** The time that requeuing jobs may take at shutdown, before connections are destroyed. */
const REQUEUE_TIMEOUT_MS = 1_000;

/** The delay of a job whose environment is busy, before jitter. It grows, since many jobs can wait for a slow host. */
const SNOOZE_BACKOFF: BackoffPolicy = { initialMs: 100, maxMs: 2_000 };

/** The delay of a job that waits for its execution workspace, before jitter: short, to notice a free one soon. */
const WAIT_DELAY_MS = 250;

/** BullMQ workers for every queue of one replica. */
export class JobWorkers {
  readonly #workers: readonly LessorWorker[];
  readonly #committer: Committer;
  readonly #settings: ResolvedWorkerSettings;
  readonly #logger: Logger;

  constructor(queues: Queues, committer: Committer, settings: ResolvedWorkerSettings, logger: Logger) {
    this.#committer = committer;
    this.#settings = settings;
    this.#logger = logger;
    this.#workers = openWorkers(queues, committer, settings, logger);
  }

  /** Resolves once jobs are fetched. While the queue is unreachable it waits. */
  async start(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()));
    for (const worker of this.#workers) this.#run(worker);
  }

  /** Fetches no more jobs, lets those in flight finish for `shutdownTimeoutMs`, requeues the others, and disconnects. */
  async close(): Promise<void> {
    await this.#drain();
    await Promise.all(this.#workers.map((worker) => worker.close(true)));
  }

  #run(worker: LessorWorker): void {
    worker.run().catch((error: unknown) => {
      this.#logger.fatal({ event: 'queue_worker_failed', err: error, queue: worker.name }, 'queue worker failed');
    });
  }

  async #drain(): Promise<void> {
    const timeoutMs = this.#settings.shutdownTimeoutMs;
    const running = this.#workers.filter((worker) => worker.isRunning());
    const drained = Promise.all(running.map((worker) => worker.pause())).then(() => true);
    if (await Promise.race([drained, sleep(timeoutMs, false, { ref: false })])) return;
    this.#logger.warn({ event: 'graceful_close_timed_out', timeoutMs }, 'graceful close timed out');
    this.#committer.stopWaiting();
    await Promise.race([drained, sleep(REQUEUE_TIMEOUT_MS, false, { ref: false })]);
  }
}

function openWorkers(
  queues: Queues,
  committer: Committer,
  { concurrency, lockDurationMs, releaseBackoff }: ResolvedWorkerSettings,
  logger: Logger,
): LessorWorker[] {
  const options = {
    autorun: false,
    lockDuration: lockDurationMs,
    stalledInterval: lockDurationMs,
    maxStalledCount: MAX_RECOVERIES,
    runRetryDelay: RETRY_COMMAND_MS,
  };
  const attemptOptions = {
    committer,
    quarantine: new PoisonQuarantine((milliseconds) => sleep(milliseconds, undefined, { ref: false })),
    logger,
    waitDelayMs: () => withJitter(WAIT_DELAY_MS),
    snoozeDelayMs: (starts: number) => withJitter(backoffDelay(starts, SNOOZE_BACKOFF)),
    now: () => Date.now(),
  };
  return [
    ...HANDLERS.map((handler) =>
      queues.worker(handler.queue, createJobProcessor(handler, attemptOptions), {
        ...options,
        ...jobRetention(handler.queue, queues.kind),
        concurrency,
        settings: retrySettings(handler.queue, releaseBackoff, Math.random),
      }),
    ),
    queues.worker('lease-sweep', createSweepProcessor(committer, logger), options),
  ];
}

/** Between once and twice the delay. */
function withJitter(milliseconds: number): number {
  return Math.round(milliseconds * (1 + Math.random()));
}

function createSweepProcessor(committer: Committer, logger: Logger): Processor<unknown, unknown> {
  return async () => {
    try {
      return await committer.sweep();
    } catch (error) {
      logger.error({ event: 'sweep_failed', err: error }, 'sweep failed');
      throw new Error(describeError(error), { cause: error });
    }
  };
}
