import { fileURLToPath } from 'node:url';
import { onTestFailed, onTestFinished } from 'vitest';
import type { RunStarted } from '../../src/contracts/index.ts';
import { spawnNode, spawnWorker as spawnWorkerProcess } from '../../testing/processes.ts';
import type { NodeProcess } from '../../testing/processes.ts';

/** Where a process finds its stores. */
export interface ProcessStores {
  database: { url: string };
  queueUrl: string;
  prefix: string;
}

/** What is done to a process beyond its flags. */
export interface SpawnOptions {
  env?: Record<string, string>;
  /** Modules that are loaded before the program. */
  preloads?: readonly URL[];
}

/** Starts `lessor worker`; it processes jobs once it has logged `worker started`. It does not outlive the test. */
export function spawnWorker(
  { database, queueUrl, prefix }: ProcessStores,
  flags: readonly string[] = [],
  { env = {}, preloads = [] }: SpawnOptions = {},
): NodeProcess {
  const stores = { databaseUrl: database.url, queueUrl, prefix };
  return ofTest(spawnWorkerProcess(stores, flags, { env: { LOG_LEVEL: 'info', ...env }, preloads, stderr: 'record' }));
}

/** Starts a heartbeat service that publishes starts, and ends. */
export function spawnPublisher(
  { queueUrl, prefix }: Pick<ProcessStores, 'queueUrl' | 'prefix'>,
  starts: readonly RunStarted[],
): NodeProcess {
  const script = fileURLToPath(new URL('./publish-starts.ts', import.meta.url));
  const env = { ...process.env, QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix };
  const publisher = spawnNode(['--import', 'tsx', script], {
    env,
    stdin: JSON.stringify(starts),
    stderr: 'record',
  });
  return ofTest(publisher);
}

/** Kills the process when the test is over, and prints its log when the test has failed. */
function ofTest(child: NodeProcess): NodeProcess {
  onTestFailed(() => void process.stderr.write(`log of process ${child.pid}:\n${child.log()}`));
  onTestFinished(() => child.stop('SIGKILL'));
  return child;
}
