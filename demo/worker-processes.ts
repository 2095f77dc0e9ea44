import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { DemoStores } from './stores.ts';

/** The `lessor` command from source, as arguments of node. */
export const LESSOR = ['--import', 'tsx', fileURLToPath(new URL('../src/cli.ts', import.meta.url))];

/** The environment of every process of the demo. */
export function environmentFor(stores: DemoStores): NodeJS.ProcessEnv {
  return { ...process.env, DATABASE_URL: stores.databaseUrl, QUEUE_URL: stores.queueUrl, LOG_LEVEL: 'error' };
}

/** Starts `lessor worker` processes, which sweep every second. */
export function startWorkers(stores: DemoStores, count: number): { stop(): Promise<void> } {
  const workers = Array.from({ length: count }, (_, number) =>
    spawn(process.execPath, [...LESSOR, 'worker', '--replica', `demo-${number + 1}`, '--sweep-interval', '1s'], {
      env: environmentFor(stores),
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  );
  return {
    async stop() {
      await Promise.all(workers.map(stopProcess));
    },
  };
}

async function stopProcess(worker: ChildProcess): Promise<void> {
  if (worker.exitCode !== null || worker.signalCode !== null) return;
  const exit = once(worker, 'exit');
  worker.kill('SIGTERM');
  await exit;
}
