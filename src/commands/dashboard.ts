import { Command } from 'commander';
import { z } from 'zod';
import { credentialsOf } from '../api/auth.ts';
import { startServer } from '../api/server.ts';
import { setting } from '../lib/settings.ts';
import { addSettings, databaseSettings, logLevelSetting, queueSettings, readSettings } from './options.ts';
import { closeWithin, createLogger, firstShutdownSignal } from './service-process.ts';

/** Requests in flight get five seconds, the queues two. Orchestrators usually kill after ten. */
const CLOSE_DEADLINE_MS = 9_000;

const SETTINGS = {
  host: setting(z.string().min(1), {
    flag: '--host <host>',
    variable: 'DASHBOARD_HOST',
    description: 'address to listen on',
    example: '0.0.0.0',
  }).default('127.0.0.1'),
  port: setting(z.int().min(0).max(65_535), {
    flag: '--port <port>',
    variable: 'DASHBOARD_PORT',
    description: 'port to listen on; 0 takes a free one',
    example: '3000',
  }).default(3000),
  ...databaseSettings,
  ...queueSettings,
  logLevel: logLevelSetting,
  username: setting(z.string(), {
    variable: 'DASHBOARD_USERNAME',
    description: 'user name; required, with the password, as soon as other machines can reach the dashboard',
    example: 'operator',
  }).optional(),
  password: setting(z.string(), {
    variable: 'DASHBOARD_PASSWORD',
    description: 'password of that user',
    example: '$(openssl rand -base64 24)',
  }).optional(),
};

/** `lessor dashboard`: serves Bull Board and the health checks until it receives a signal. */
export function dashboardCommand(): Command {
  const command = new Command('dashboard').description(
    'serve the dashboard of the queues, /health/live and /health/ready',
  );
  return addSettings(command, SETTINGS).action(runDashboard);
}

async function runDashboard(options: object): Promise<void> {
  const { logLevel, username, password, ...settings } = readSettings(SETTINGS, options);
  const logger = createLogger(logLevel);
  const stopping = firstShutdownSignal();
  const credentials = credentialsOf({ username, password });
  const server = await startServer({ ...settings, credentials, logger });
  process.stdout.write(`${server.url}\n`);
  logger.info({ event: 'dashboard_stopping', signal: await stopping }, 'dashboard stopping');
  await closeWithin(server, CLOSE_DEADLINE_MS);
}
