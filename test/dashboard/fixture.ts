import { once } from 'node:events';
import { UnrecoverableError } from 'bullmq';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { createDashboard } from '../../src/dashboard/app.ts';
import type { DashboardOptions } from '../../src/dashboard/app.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { startDashboard } from '../../src/dashboard/server.ts';
import type { DashboardServerOptions } from '../../src/dashboard/server.ts';
import type { Stores } from './stores.ts';

const logger = pino({ level: 'silent' });

/** Builds the dashboard as the server does, and closes it after the test. */
export async function buildDashboard(options: Omit<DashboardOptions, 'logger'>) {
  const app = await createDashboard({ logger, ...options });
  onTestFinished(() => app.close());
  return app;
}

/** Serves the dashboard on any free port, and closes it after the test. */
export async function serveDashboard(options: Omit<DashboardServerOptions, 'logger' | 'host' | 'port'>) {
  const dashboard = await startDashboard({ host: '127.0.0.1', port: 0, logger, ...options });
  onTestFinished(() => dashboard.close());
  return dashboard;
}

/** Why the job of {@link runTwoJobs} failed. */
export const FAILED_REASON = 'unknown_environment: the company has no environment of that id';

/** Publishes one job that completes and one that fails, and waits until both have ended. */
export async function runTwoJobs({ queueUrl, prefix }: Stores): Promise<void> {
  const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: failTest });
  const queue = queues.queue('run-started');
  await queue.add('run-started', { runId: 'run-that-completes' }, { jobId: 'completes' });
  await queue.add('run-started', { runId: 'run-that-fails' }, { jobId: 'fails' });
  const worker = queues.worker(
    'run-started',
    async (job) => {
      if (job.id === 'fails') throw new UnrecoverableError(FAILED_REASON);
      return { status: 'active' };
    },
    { concurrency: 2 },
  );
  await Promise.all([once(worker, 'completed'), once(worker, 'failed')]);
  await worker.close();
  await queue.close();
  await queues.close();
}

function failTest(error: Error): never {
  throw error;
}
