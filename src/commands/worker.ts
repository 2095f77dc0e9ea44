import { Command, Option } from 'commander';
import { DEFAULT_CONCURRENCY } from '../consumers/worker-settings.ts';
import { createWorker } from '../consumers/worker.ts';
import { createControlDrivers } from './control-drivers.ts';
import { SECRET_KEY_HELP, addEnvironmentOptions } from './environment-options.ts';
import type { EnvironmentFlags } from './environment-options.ts';
import { createLogger, logLevelOption } from './log.ts';
import {
  checkedDatabaseUrl,
  checkedQueueUrl,
  databaseUrlOption,
  parseAge,
  parseCount,
  parseDuration,
  parseSwitch,
  parseTtl,
  queuePrefixOption,
  queueUrlOption,
} from './settings.ts';
import { firstShutdownSignal } from './shutdown-signals.ts';

interface WorkerFlags extends EnvironmentFlags {
  databaseUrl?: string;
  queueUrl?: string;
  queuePrefix: string;
  concurrency: number;
  replica?: string;
  companyRegistration: 'auto' | 'known';
  defaultTtl: number;
  leaseWait: number;
  sweepInterval: number;
  lockDuration: number;
  shutdownTimeout: number;
  outboxPollInterval: number;
  runRetention: number;
  requireDurableQueue: boolean;
  logLevel: string;
}

/** `lessor worker`: works off the queues until it is told to stop. */
export function workerCommand(): Command {
  const command = new Command('worker')
    .description('work off the queues: run as many replicas as the load needs')
    .addOption(databaseUrlOption())
    .addOption(queueUrlOption())
    .addOption(queuePrefixOption())
    .addOption(
      new Option('--concurrency <n>', 'jobs of each queue worked on at once')
        .env('CONCURRENCY')
        .default(DEFAULT_CONCURRENCY)
        .argParser(parseCount),
    )
    .addOption(new Option('--replica <name>', 'name in logs and activity; default host name and pid').env('REPLICA'))
    .addOption(
      new Option('--company-registration <when>', 'register companies at first sight, or refuse unknown ones')
        .env('COMPANY_REGISTRATION')
        .choices(['auto', 'known'])
        .default('auto'),
    )
    .addOption(
      durationOption('--default-ttl <time>', 'ttl of leases whose run names none', 'DEFAULT_TTL', '5m', parseTtl),
    )
    .addOption(durationOption('--lease-wait <time>', 'how long a run waits for its workspace', 'LEASE_WAIT', '5m'))
    .addOption(durationOption('--sweep-interval <time>', 'how often leases are swept', 'SWEEP_INTERVAL', '15s'))
    .addOption(
      durationOption('--lock-duration <time>', 'until a dead replica’s jobs are taken over', 'LOCK_DURATION', '15s'),
    )
    .addOption(durationOption('--shutdown-timeout <time>', 'for jobs under way at a stop', 'SHUTDOWN_TIMEOUT', '10s'))
    .addOption(
      durationOption(
        '--outbox-poll-interval <time>',
        'how often the outbox is looked at unasked',
        'OUTBOX_POLL_INTERVAL',
        '5s',
      ),
    )
    .addOption(
      durationOption(
        '--run-retention <time>',
        'how long ended runs without a lease are kept',
        'RUN_RETENTION',
        '90d',
        parseAge,
      ),
    )
    .addOption(
      new Option('--require-durable-queue [boolean]', 'refuse a Redis that evicts jobs when its memory is full')
        .env('REQUIRE_DURABLE_QUEUE')
        .preset('true')
        .argParser(parseSwitch)
        .default(false),
    );
  return addEnvironmentOptions(command)
    .addOption(logLevelOption())
    .addHelpText('after', SECRET_KEY_HELP)
    .action(runWorker);
}

function durationOption(
  flags: string,
  description: string,
  variable: string,
  fallback: string,
  parser: (text: string) => number = parseDuration,
): Option {
  return new Option(flags, description).env(variable).default(parser(fallback), fallback).argParser(parser);
}

async function runWorker(flags: WorkerFlags): Promise<void> {
  const logger = createLogger(flags.logLevel);
  const stopping = firstShutdownSignal();
  const worker = createWorker({
    databaseUrl: checkedDatabaseUrl(flags.databaseUrl),
    queueUrl: checkedQueueUrl(flags.queueUrl),
    prefix: flags.queuePrefix,
    concurrency: flags.concurrency,
    replica: flags.replica,
    companyRegistration: flags.companyRegistration,
    defaultTtlSeconds: flags.defaultTtl,
    leaseWaitMs: flags.leaseWait,
    sweepIntervalMs: flags.sweepInterval,
    lockDurationMs: flags.lockDuration,
    shutdownTimeoutMs: flags.shutdownTimeout,
    outboxPollIntervalMs: flags.outboxPollInterval,
    runRetentionSeconds: flags.runRetention,
    requireDurableQueue: flags.requireDurableQueue,
    enableEnvironments: flags.enableEnvironments,
    driverConcurrency: flags.driverConcurrency,
    environmentConcurrency: flags.environmentConcurrency,
    releaseAttempts: flags.releaseAttempts,
    drivers: createControlDrivers(process.env),
    logger,
  });
  const started = worker.start();
  const signal = await Promise.race([started, stopping]);
  logger.info({ signal: signal ?? (await stopping) }, 'worker stops');
  await worker.close();
}
