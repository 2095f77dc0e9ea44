import { setTimeout as sleep } from 'node:timers/promises';
import type { Processor } from 'bullmq';
import type { Logger } from 'pino';
import type { LessorWorker, Queues } from '../queues/queues.ts';
import { describeError } from './error-serializer.ts';
import { createJobProcessor } from './job-processor.ts';
import type { OperationsOnPostgres } from './operations-on-postgres.ts';
import { runFinishedHandler } from './run-finished.ts';
import { runHeartbeatHandler } from './run-heartbeat.ts';
import { runStartedHandler } from './run-started.ts';
import type { ResolvedWorkerSettings } from './worker-options.ts';

const HANDLERS = [runStartedHandler, runFinishedHandler, runHeartbeatHandler];

/** The job scheduler of the sweep: the same in every replica, so that together they sweep once an interval. */
const SWEEP_SCHEDULER = 'lease-sweep';

/**
 * How often a job may be taken over from a replica that died. A job is lost to the failed set beyond it, so it is far
 * above what restarts cause, and yet a bound for a job that itself makes replicas die.
 */
const MAXIMUM_TAKEOVERS = 20;

/** Jobs given back at shutdown have this long to be given back before connections are cut. */
const GIVE_BACK_MS = 1_000;

/** How long a waiting run is left alone: often enough to notice a free workspace soon, with jitter. */
const WAIT_DELAY_MS = 250;

/** BullMQ workers for every queue, started. */
export async function openJobWorkers(
  queues: Queues,
  operations: OperationsOnPostgres,
  settings: ResolvedWorkerSettings,
  logger: Logger,
): Promise<{ close(): Promise<void> }> {
  const { concurrency, leaseWaitMs, lockDurationMs, sweepIntervalMs } = settings;
  const takeover = {
    lockDuration: lockDurationMs,
    stalledInterval: lockDurationMs,
    maxStalledCount: MAXIMUM_TAKEOVERS,
  };
  const processing = {
    dependencies: operations,
    logger,
    leaseWaitMs,
    waitDelayMs: () => WAIT_DELAY_MS * (1 + Math.random()),
    now: () => Date.now(),
  };
  const workers = HANDLERS.map((handler) =>
    queues.worker(handler.queue, createJobProcessor(handler, processing), { concurrency, ...takeover }),
  );
  workers.push(queues.worker('lease-sweep', createSweepProcessor(operations, logger), takeover));

  const sweepQueue = queues.queue('lease-sweep');
  await sweepQueue.upsertJobScheduler(
    SWEEP_SCHEDULER,
    { every: sweepIntervalMs },
    { name: SWEEP_SCHEDULER, opts: { removeOnComplete: { count: 100 }, removeOnFail: { count: 1_000 } } },
  );
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));

  return {
    async close() {
      await finishJobs(workers, operations, settings.shutdownTimeoutMs, logger);
      await Promise.all(workers.map((worker) => worker.close(true)));
      await sweepQueue.close();
    },
  };
}

/** Takes no more jobs and waits for those under way; past the deadline they are given back to the queue. */
async function finishJobs(
  workers: readonly LessorWorker[],
  operations: OperationsOnPostgres,
  timeoutMs: number,
  logger: Logger,
): Promise<void> {
  const finished = Promise.all(workers.map((worker) => worker.pause())).then(() => true);
  if (await Promise.race([finished, sleep(timeoutMs, false, { ref: false })])) return;
  logger.warn({ timeoutMs }, 'jobs under way took too long: they are given back to the queue');
  operations.stopWaiting();
  await Promise.race([finished, sleep(GIVE_BACK_MS, false, { ref: false })]);
}

function createSweepProcessor(operations: OperationsOnPostgres, logger: Logger): Processor<unknown, unknown> {
  return async () => {
    try {
      return await operations.sweep();
    } catch (error) {
      logger.error({ err: error }, 'sweep failed: the next one starts over');
      throw new Error(describeError(error), { cause: error });
    }
  };
}
