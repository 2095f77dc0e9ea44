import { Command, InvalidArgumentError, Option } from 'commander';
import { readCredentials } from '../api/auth.ts';
import type { RunningServer } from '../api/server.ts';
import { createLogger, logLevelOption } from './log.ts';
import {
  checkedDatabaseUrl,
  checkedQueueUrl,
  databaseUrlOption,
  queuePrefixOption,
  queueUrlOption,
} from './settings.ts';
import { firstShutdownSignal } from './shutdown-signals.ts';

interface DashboardFlags {
  host: string;
  port: number;
  databaseUrl?: string;
  queueUrl?: string;
  queuePrefix: string;
  logLevel: string;
}

/** Requests under way get five seconds, the queues two; an orchestrator usually kills after ten. */
const CLOSE_DEADLINE_MS = 9_000;

const CREDENTIALS_HELP = `
Credentials are read from the environment only: DASHBOARD_USERNAME and DASHBOARD_PASSWORD.
They are required as soon as other machines can reach the dashboard.`;

/** `lessor dashboard`: serves Bull Board and the health checks until it is told to stop. */
export function dashboardCommand(): Command {
  return new Command('dashboard')
    .description('serve the dashboard of the queues, /health/live and /health/ready')
    .addOption(new Option('--host <host>', 'address to listen on').env('DASHBOARD_HOST').default('127.0.0.1'))
    .addOption(
      new Option('--port <port>', 'port to listen on, 0 for any')
        .env('DASHBOARD_PORT')
        .default(3000)
        .argParser(parsePort),
    )
    .addOption(databaseUrlOption())
    .addOption(queueUrlOption())
    .addOption(queuePrefixOption())
    .addOption(logLevelOption())
    .addHelpText('after', CREDENTIALS_HELP)
    .action(runDashboard);
}

async function runDashboard(flags: DashboardFlags): Promise<void> {
  const logger = createLogger(flags.logLevel);
  const stopping = firstShutdownSignal();
  // Loaded here: it takes as long as a third of the start of any other command.
  const { startServer } = await import('../api/server.ts');
  const server = await startServer({
    host: flags.host,
    port: flags.port,
    databaseUrl: checkedDatabaseUrl(flags.databaseUrl),
    queueUrl: checkedQueueUrl(flags.queueUrl),
    prefix: flags.queuePrefix,
    credentials: readCredentials(process.env),
    logger,
  });
  process.stdout.write(`${server.url}\n`);
  logger.info({ signal: await stopping }, 'dashboard stops');
  await closeWithin(server, CLOSE_DEADLINE_MS);
}

async function closeWithin(server: RunningServer, milliseconds: number): Promise<void> {
  const deadline = setTimeout(() => {
    process.stderr.write(`error: the dashboard did not close within ${milliseconds} ms\n`);
    process.exit(1);
  }, milliseconds);
  try {
    await server.close();
  } finally {
    clearTimeout(deadline);
  }
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new InvalidArgumentError('It must be a number from 0 to 65535.');
}
