import { setTimeout as sleep } from 'node:timers/promises';
import type { Processor } from 'bullmq';
import type { Logger } from 'pino';
import type { LessorWorker, Queues } from '../queues/queues.ts';
import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';
import { jobRetention } from '../queues/job-retention.ts';
import { retrySettings } from '../queues/retry-policy.ts';
import { describeError } from './error-serializer.ts';
import { createJobProcessor } from './job-processor.ts';
import { PoisonIsolation } from './poison-isolation.ts';
import { leaseReleaseHandler } from './lease-release.ts';
import type { Committer } from './committer.ts';
import { runFinishedHandler } from './run-finished.ts';
import { runHeartbeatHandler } from './run-heartbeat.ts';
import { runStartedHandler } from './run-started.ts';
import type { ResolvedWorkerSettings } from './worker-settings.ts';

const HANDLERS = [runStartedHandler, runFinishedHandler, runHeartbeatHandler, leaseReleaseHandler];

/**
 * How often a job may be taken over from a replica that died, before it is failed without being tried. Far above what
 * restarts cause: a job that makes replicas die is found by its attempts alone (`poison-isolation.ts`), and this is the
 * bound for one that does so before it can be tried at all, such as one that does not fit into memory.
 */
const MAXIMUM_TAKEOVERS = 50;

/** How long BullMQ waits after a command that failed, as while the queue is away; its default is 15 seconds. */
const RETRY_COMMAND_MS = 1_000;

/** Jobs given back at shutdown have this long to be given back before connections are cut. */
const GIVE_BACK_MS = 1_000;

/** How long a job is left alone that found its environment busy: ever longer, as many can wait for a slow one. */
const WHILE_BUSY: BackoffPolicy = { initialMs: 100, maxMs: 2_000 };

/** How long a waiting run is left alone: often enough to notice a free workspace soon, with jitter. */
const WAIT_DELAY_MS = 250;

/** BullMQ workers for every queue of one replica. */
export class JobWorkers {
  readonly #workers: readonly LessorWorker[];
  readonly #operations: Committer;
  readonly #settings: ResolvedWorkerSettings;
  readonly #logger: Logger;

  constructor(queues: Queues, operations: Committer, settings: ResolvedWorkerSettings, logger: Logger) {
    this.#operations = operations;
    this.#settings = settings;
    this.#logger = logger;
    this.#workers = openWorkers(queues, operations, settings, logger);
  }

  /** Resolves once jobs are taken up. While the queue is away it waits for it. */
  async start(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()));
    for (const worker of this.#workers) this.#run(worker);
  }

  /** Lets jobs under way finish for `shutdownTimeoutMs`, gives back the others, and disconnects. */
  async close(): Promise<void> {
    await finishJobs(this.#workers, this.#operations, this.#settings.shutdownTimeoutMs, this.#logger);
    await Promise.all(this.#workers.map((worker) => worker.close(true)));
  }

  #run(worker: LessorWorker): void {
    worker.run().catch((error: unknown) => {
      this.#logger.fatal({ err: error, queue: worker.name }, 'worker stopped taking jobs');
    });
  }
}

function openWorkers(
  queues: Queues,
  operations: Committer,
  { concurrency, lockDurationMs, releaseBackoff }: ResolvedWorkerSettings,
  logger: Logger,
): LessorWorker[] {
  const options = {
    autorun: false,
    lockDuration: lockDurationMs,
    stalledInterval: lockDurationMs,
    maxStalledCount: MAXIMUM_TAKEOVERS,
    runRetryDelay: RETRY_COMMAND_MS,
  };
  const processing = {
    operations,
    isolation: new PoisonIsolation((milliseconds) => sleep(milliseconds, undefined, { ref: false })),
    logger,
    waitDelayMs: () => Math.round(WAIT_DELAY_MS * (1 + Math.random())),
    snoozeMs: (starts: number) => Math.round(backoffDelay(starts, WHILE_BUSY) * (1 + Math.random())),
    now: () => Date.now(),
  };
  return [
    ...HANDLERS.map((handler) =>
      queues.worker(handler.queue, createJobProcessor(handler, processing), {
        ...options,
        ...jobRetention(handler.queue, queues.kind),
        concurrency,
        settings: retrySettings(handler.queue, releaseBackoff, Math.random),
      }),
    ),
    queues.worker('lease-sweep', createSweepProcessor(operations, logger), options),
  ];
}

/** Takes no more jobs and waits for those under way; past the deadline they are given back to the queue. */
async function finishJobs(
  workers: readonly LessorWorker[],
  operations: Committer,
  timeoutMs: number,
  logger: Logger,
): Promise<void> {
  const running = workers.filter((worker) => worker.isRunning());
  const finished = Promise.all(running.map((worker) => worker.pause())).then(() => true);
  if (await Promise.race([finished, sleep(timeoutMs, false, { ref: false })])) return;
  logger.warn({ timeoutMs }, 'jobs under way took too long: they are given back to the queue');
  operations.stopWaiting();
  await Promise.race([finished, sleep(GIVE_BACK_MS, false, { ref: false })]);
}

function createSweepProcessor(operations: Committer, logger: Logger): Processor<unknown, unknown> {
  return async () => {
    try {
      return await operations.sweep();
    } catch (error) {
      logger.error({ err: error }, 'sweep failed: the next one starts over');
      throw new Error(describeError(error), { cause: error });
    }
  };
}
