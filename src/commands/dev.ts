import { join } from 'node:path';
import { Command, Option } from 'commander';
import { createWorker } from '../consumers/worker.ts';
import { migrate } from '../db/migrate.ts';
import { startEmbeddedPostgres } from '../embedded/index.ts';
import { migrateQueue } from '../queues/migrate-queue.ts';
import { createControlDrivers } from './control-drivers.ts';
import { SECRET_KEY_HELP, addEnvironmentOptions } from './environment-options.ts';
import type { EnvironmentFlags } from './environment-options.ts';
import { createLogger, logLevelOption } from './log.ts';
import { checkedQueueUrl, parseCount, queueUrlOption } from './settings.ts';
import { firstShutdownSignal } from './shutdown-signals.ts';

interface DevFlags extends EnvironmentFlags {
  directory: string;
  port?: number;
  queueUrl?: string;
  logLevel: string;
}

/** `lessor dev`: everything on this machine, with nothing to install. */
export function devCommand(): Command {
  const command = new Command('dev')
    .description('run an embedded Postgres and a worker on it, until Ctrl-C; the data is kept for the next time')
    .addOption(new Option('--directory <path>', 'where the data is kept').default('.lessor'))
    .addOption(new Option('--port <port>', 'port of Postgres; default any free one').argParser(parseCount))
    .addOption(queueUrlOption());
  return addEnvironmentOptions(command)
    .addOption(logLevelOption('warn'))
    .addHelpText('after', SECRET_KEY_HELP)
    .action(runDev);
}

async function runDev(flags: DevFlags): Promise<void> {
  const { directory, port, queueUrl: givenQueueUrl, logLevel, ...environments } = flags;
  const logger = createLogger(logLevel);
  const drivers = createControlDrivers(process.env);
  const stopping = firstShutdownSignal();
  const postgres = await startEmbeddedPostgres({
    dataDirectory: join(directory, 'postgres'),
    logger,
    ...(port === undefined ? {} : { port }),
  });
  try {
    const queueUrl = givenQueueUrl === undefined ? postgres.url : checkedQueueUrl(givenQueueUrl);
    await migrate(postgres.url);
    await migrateQueue(queueUrl);
    const worker = createWorker({ databaseUrl: postgres.url, queueUrl, logger, drivers, ...environments });
    await worker.start();
    process.stdout.write(`Point producers and lessor commands at:\n\n  export QUEUE_URL=${queueUrl}\n`);
    process.stdout.write(`  export DATABASE_URL=${postgres.url}\n\nCtrl-C ends it; the data stays in ${directory}.\n`);
    await stopping;
    await worker.close();
  } finally {
    await postgres.stop();
  }
}
