import { once } from 'node:events';
import { UnrecoverableError } from 'bullmq';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { buildServer } from '../../src/api/server.ts';
import type { ServerOptions } from '../../src/api/server.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { startServer } from '../../src/api/server.ts';
import type { ListenOptions } from '../../src/api/server.ts';
import type { Stores } from './stores.ts';

const logger = pino({ level: 'silent' });

/** Builds the server without listening, and closes it after the test. */
export async function openServer(options: Omit<ServerOptions, 'logger'>) {
  const app = await buildServer({ logger, ...options });
  onTestFinished(() => app.close());
  return app;
}

/** Starts the server on any free port, and closes it after the test. */
export async function listenOnLoopback(options: Omit<ListenOptions, 'logger' | 'host' | 'port'>) {
  const server = await startServer({ host: '127.0.0.1', port: 0, logger, ...options });
  onTestFinished(() => server.close());
  return server;
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
