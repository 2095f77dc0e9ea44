import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { Logger } from 'pino';
import { QueueNotDurableError } from '../contracts/index.ts';
import { assertMigrated } from '../db/migrate.ts';
import { openWorkerPool } from '../db/worker-pool.ts';
import type { ControlDriver } from '../environments/drivers/driver.ts';
import { raceAbort } from '../lib/abort.ts';
import { Closers } from '../lib/closers.ts';
import { ThrottledLog } from '../lib/throttled-log.ts';
import { openOutboxRelay } from '../outbox/open-relay.ts';
import { openQueues } from '../queues/queues.ts';
import type { Queues } from '../queues/queues.ts';
import { ReleaseJobs } from '../queues/release-jobs.ts';
import { serializeError } from './error-serializer.ts';
import { JobWorkers } from './job-workers.ts';
import { connectionsOf, openCommitter } from './committer.ts';
import { SweepSchedule } from './sweep/schedule.ts';
import { resolveWorkerSettings } from './worker-settings.ts';
import type { WorkerSettings } from './worker-settings.ts';

/** Settings of a worker, and its logger and drivers. */
export interface WorkerOptions extends WorkerSettings {
  /** Default: JSON lines on stderr, at level `info`. */
  logger?: Logger;
  /**
   * Drivers of the environments that the worker leases besides `Local`, once `enableEnvironments` is set; default none.
   * The worker closes them when it is closed.
   */
  drivers?: readonly ControlDriver[];
}

/** A replica that processes the queues. */
export interface Worker {
  /**
   * Connects, and resolves once jobs are fetched; while Redis is unreachable it waits.
   * @throws {SchemaOutdatedError} when the database or the queue's tables lack migrations
   * @throws {QueueNotDurableError} when a durable queue is required, and Redis may evict jobs or its policy is unknown
   */
  start(): Promise<void>;
  /**
   * Fetches no more jobs, lets those in flight finish for at most `shutdownTimeoutMs`, requeues the others without
   * counting an attempt, and disconnects. Every call returns the same promise.
   */
  close(): Promise<void>;
}

/**
 * Creates a worker replica. Any number of them share the jobs of the queues.
 * @throws {InvalidConfigurationError} naming each setting that is wrong
 */
export function createWorker({ logger: givenLogger, drivers = [], ...given }: WorkerOptions): Worker {
  const settings = resolveWorkerSettings(given);
  const { replica } = settings;
  const logger = (givenLogger ?? pino({ name: 'lessor' }, pino.destination(2))).child(
    { replica },
    { serializers: { err: serializeError } },
  );
  const closers = new Closers();
  const stopping = new AbortController();
  let closing: Promise<void> | undefined;

  const open = async (): Promise<void> => {
    const db = openWorkerPool(settings.databaseUrl, {
      maximumConnections: connectionsOf(settings),
      applicationName: `lessor worker ${replica}`,
    });
    closers.add(() => db.close());
    await raceAbort(assertMigrated(db), stopping.signal);

    const connectionErrors = throttled((details) =>
      logger.warn({ event: 'queue_connection_error', ...details }, 'queue connection error'),
    );
    const queues = openQueues(settings.queueUrl, {
      role: 'consumer',
      prefix: settings.prefix,
      onError: (error) => connectionErrors.report(error),
    });
    closers.add(() => queues.close());
    await raceAbort(queues.assertMigrated(), stopping.signal);
    const releaseJobs = new ReleaseJobs(queues, { attempts: settings.releaseAttempts });
    closers.add(() => releaseJobs.close());
    for (const driver of drivers) closers.add(async () => driver.close?.());

    const committer = openCommitter(db, settings, { logger, releaseJobs, drivers });
    const sweepSchedule = new SweepSchedule({
      queue: queues.queue('lease-sweep'),
      everyMs: settings.sweepIntervalMs,
      sweep: () => committer.sweep(),
      logger,
      now: () => Date.now(),
      random: () => Math.random(),
    });
    closers.add(() => sweepSchedule.close());
    // Runs once every job is finished or requeued, so only a direct sweep can still wait for Postgres.
    closers.add(async () => committer.stopWaiting());
    sweepSchedule.start();

    await raceAbort(checkDurability(queues, settings.requireDurableQueue, logger), stopping.signal);
    const workers = new JobWorkers(queues, committer, settings, logger);
    closers.add(() => workers.close());
    await workers.start();
    stopping.signal.throwIfAborted();
    const relay = openOutboxRelay(db, { ...settings, ...outboxLogs(logger) });
    closers.add(() => relay.close());
    const { concurrency } = settings;
    logger.info({ event: 'worker_started', queue: queues.kind, concurrency }, 'worker started');
  };

  let opening: Promise<void> | undefined;

  const close = async (): Promise<void> => {
    stopping.abort(new Error('the worker was closed while it started'));
    // What a start in flight is about to open would stay open; it ends at its next step.
    await Promise.race([Promise.allSettled([opening]), sleep(settings.shutdownTimeoutMs, undefined, { ref: false })]);
    await closers.close();
    logger.info({ event: 'worker_stopped' }, 'worker stopped');
  };

  return {
    async start() {
      opening = open();
      try {
        await opening;
      } catch (error) {
        await closers.close();
        throw error;
      }
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/**
 * Logs how the queue may lose jobs that it has acknowledged.
 * @throws {QueueNotDurableError} when a durable queue is required, and this one may evict jobs or its policy is unknown.
 * A Redis that loses jobs at a restart is accepted: the sweep ends every lease that should end (no-leak).
 */
async function checkDurability(queues: Queues, isRequired: boolean, logger: Logger): Promise<void> {
  const durability = await queues.durability();
  if (!durability.known) {
    const { reason } = durability;
    if (isRequired) {
      throw new QueueNotDurableError(`its policy is unknown (${reason}); permit INFO to the worker's user`);
    }
    logger.debug({ event: 'queue_durability_unknown', reason }, 'queue durability unknown');
    return;
  }
  const { evictionPolicy, survivesRestart } = durability;
  if (evictionPolicy !== 'noeviction') {
    const remedy = 'set maxmemory-policy to noeviction';
    if (isRequired) {
      throw new QueueNotDurableError(`maxmemory-policy is ${evictionPolicy}, which evicts jobs; ${remedy}`);
    }
    logger.warn({ event: 'queue_evicts_jobs', evictionPolicy, remedy }, 'queue evicts jobs when memory is full');
  }
  if (!survivesRestart) {
    const remedy = 'set appendonly to yes';
    logger.warn({ event: 'queue_loses_jobs_at_restart', remedy }, 'queue loses jobs at a restart');
  }
}

/** The relay retries indefinitely, so its errors are throttled. */
function outboxLogs(logger: Logger) {
  const relayErrors = throttled((details) =>
    logger.warn({ event: 'outbox_relay_error', ...details }, 'outbox relay error'),
  );
  const unpublishable = throttled((details) =>
    logger.error({ event: 'outbox_job_unpublishable', ...details }, 'outbox job unpublishable'),
  );
  return {
    onError: (error: Error) => relayErrors.report(error),
    onUnpublishable: (error: Error) => unpublishable.report(error),
  };
}

function throttled(log: ConstructorParameters<typeof ThrottledLog>[0]): ThrottledLog {
  return new ThrottledLog(log, () => performance.now());
}
