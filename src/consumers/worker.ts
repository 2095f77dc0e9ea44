import { pino } from 'pino';
import type { Logger } from 'pino';
import { openWorkerPool } from '../db/worker-pool.ts';
import { assertMigrated } from '../db/migrate.ts';
import type { ControlDriver } from '../environments/drivers/driver.ts';
import { openOutboxRelay } from '../outbox/open-relay.ts';
import { openQueues } from '../queues/queues.ts';
import { ReleaseJobs } from '../queues/release-jobs.ts';
import { raceAbort } from '../lib/abort.ts';
import { serializeError } from './error-serializer.ts';
import { connectionsOf, openCommitter } from './committer.ts';
import { JobWorkers } from './job-workers.ts';
import { assertQueueDurable } from './queue-durability.ts';
import { Closers } from '../lib/closers.ts';
import { ThrottledLog } from '../lib/throttled-log.ts';
import { SweepSchedule } from './sweep-schedule.ts';
import { resolveWorkerSettings } from './worker-settings.ts';
import type { WorkerSettings } from './worker-settings.ts';

/** Settings of a worker, and where its log lines go. */
export interface WorkerOptions extends WorkerSettings {
  /** Default: JSON lines on stderr, at level `info`. */
  logger?: Logger;
  /**
   * Drivers of the environments that the worker leases besides `Local`, once `enableEnvironments` is set; default none.
   * The worker closes them when it is closed.
   */
  drivers?: readonly ControlDriver[];
}

/** A replica that works off the queues. */
export interface Worker {
  /**
   * Connects and takes up jobs. Resolves once it does; while Redis is away it waits for it.
   * @throws {SchemaOutdatedError} when the database or the queue's tables lack migrations
   * @throws {QueueNotDurableError} when a durable queue is required, and Redis may throw jobs away or does not tell
   */
  start(): Promise<void>;
  /**
   * Takes no more jobs, lets those under way finish for at most `shutdownTimeoutMs`, gives back the others without
   * spending an attempt, and disconnects. Calling it again returns the same promise.
   */
  close(): Promise<void>;
}

/**
 * Creates a worker replica: any number of them share the work of the queues.
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
    await assertMigrated(db);

    const connectionLog = new ThrottledLog(
      (details) => logger.warn(details, 'trouble with the queue’s connection'),
      clock,
    );
    const queues = openQueues(settings.queueUrl, {
      role: 'consumer',
      prefix: settings.prefix,
      onError: (error) => connectionLog.report(error),
    });
    closers.add(() => queues.close());
    await queues.assertMigrated();
    const releaseJobs = new ReleaseJobs(queues, { attempts: settings.releaseAttempts });
    closers.add(() => releaseJobs.close());
    for (const driver of drivers) closers.add(async () => driver.close?.());
    const operations = openCommitter(db, settings, { logger, releaseJobs, drivers });
    const sweepSchedule = new SweepSchedule({
      queue: queues.queue('lease-sweep'),
      everyMs: settings.sweepIntervalMs,
      sweep: () => operations.sweep(),
      logger,
      now: () => Date.now(),
      random: () => Math.random(),
    });
    closers.add(() => sweepSchedule.close());
    // By then every job is finished or given back: only a sweep can still wait for Postgres.
    closers.add(async () => operations.stopWaiting());
    sweepSchedule.start();
    await raceAbort(assertQueueDurable(queues, settings.requireDurableQueue, logger), stopping.signal);
    const workers = new JobWorkers(queues, operations, settings, logger);
    closers.add(() => workers.close());
    await workers.start();
    const relay = openOutboxRelay(db, { ...settings, ...outboxLogs(logger) });
    closers.add(() => relay.close());
    logger.info({ queue: queues.kind, concurrency: settings.concurrency }, 'worker started');
  };

  return {
    async start() {
      try {
        await open();
      } catch (error) {
        await closers.close();
        throw error;
      }
    },
    close() {
      stopping.abort(new Error('the worker was closed before the queue had answered'));
      closing ??= closers.close().then(() => logger.info('worker stopped'));
      return closing;
    },
  };
}

const clock = () => performance.now();

/** Tells what keeps the outbox waiting, at a slowing pace: the relay itself tries again for ever. */
function outboxLogs(logger: Logger) {
  const trouble = new ThrottledLog((details) => logger.warn(details, 'trouble with the outbox: its jobs wait'), clock);
  const unpublishable = new ThrottledLog(
    (details) => logger.error(details, 'a job of the outbox cannot be published'),
    clock,
  );
  return {
    onTrouble: (error: Error) => trouble.report(error),
    onUnpublishable: (error: Error) => unpublishable.report(error),
  };
}
