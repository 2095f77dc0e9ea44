import { join } from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { workerSettingsSchema } from '../consumers/worker-settings.ts';
import { createWorker } from '../consumers/worker.ts';
import type { Worker } from '../consumers/worker.ts';
import { migrate } from '../db/migrate.ts';
import { startEmbeddedPostgres } from '../embedded/index.ts';
import { setting } from '../lib/settings.ts';
import { migrateQueue } from '../queues/backends/postgres.ts';
import { createControlDrivers } from './control-drivers.ts';
import { addSettings, logLevelSetting, readSettings, secretKeySetting } from './options.ts';
import { createLogger, firstShutdownSignal } from './service-process.ts';

const { enableEnvironments, driverConcurrency, environmentConcurrency, releaseAttempts } = workerSettingsSchema.shape;

const SETTINGS = {
  directory: setting(z.string().min(1), {
    flag: '--directory <path>',
    description: 'where the data is kept',
    example: '.lessor',
  }).default('.lessor'),
  port: setting(z.int().min(1).max(65_535), {
    flag: '--port <port>',
    description: 'port of Postgres',
    example: '5432',
    computedDefault: 'a free one',
  }).optional(),
  queueUrl: workerSettingsSchema.shape.queueUrl.optional(),
  enableEnvironments,
  driverConcurrency,
  environmentConcurrency,
  releaseAttempts,
  logLevel: logLevelSetting.unwrap().default('warn'),
  secretKey: secretKeySetting,
};

/** After so long a queue that does not answer is reported; the worker goes on waiting for it. */
const REPORT_WAIT_AFTER_MS = 3_000;

/** `lessor dev`: everything on this machine, with nothing to install. */
export function devCommand(): Command {
  const command = new Command('dev').description(
    'run an embedded Postgres and a worker on it until Ctrl-C; the data is kept for the next start',
  );
  return addSettings(command, SETTINGS).action(runDev);
}

async function runDev(options: object): Promise<void> {
  const {
    directory,
    port,
    queueUrl: givenQueueUrl,
    logLevel,
    secretKey,
    ...environments
  } = readSettings(SETTINGS, options);
  const logger = createLogger(logLevel);
  const drivers = createControlDrivers(secretKey);
  const stopping = firstShutdownSignal();
  const postgres = await startEmbeddedPostgres({
    dataDirectory: join(directory, 'postgres'),
    logger,
    ...(port === undefined ? {} : { port }),
  });
  try {
    const queueUrl = givenQueueUrl ?? postgres.url;
    await migrate(postgres.url);
    await migrateQueue(queueUrl);
    const worker = createWorker({ databaseUrl: postgres.url, queueUrl, logger, drivers, ...environments });
    const isReady = await startUnlessStopped(worker, stopping);
    if (!isReady) return await worker.close();
    process.stdout.write(`Point producers and lessor commands at:\n\n  export QUEUE_URL=${queueUrl}\n`);
    process.stdout.write(`  export DATABASE_URL=${postgres.url}\n\nCtrl-C ends it; the data stays in ${directory}.\n`);
    await stopping;
    await worker.close();
  } finally {
    await postgres.stop();
  }
}

/** Returns whether the worker is ready: it waits for its queue as long as no signal arrives. */
async function startUnlessStopped(worker: Worker, stopping: Promise<NodeJS.Signals>): Promise<boolean> {
  const report = setTimeout(
    () => process.stderr.write('the queue does not answer yet: waiting for it, until Ctrl-C\n'),
    REPORT_WAIT_AFTER_MS,
  );
  try {
    return (await Promise.race([worker.start().then(() => 'ready' as const), stopping])) === 'ready';
  } finally {
    clearTimeout(report);
  }
}
