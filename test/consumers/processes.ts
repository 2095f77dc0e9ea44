import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { onTestFailed, onTestFinished } from 'vitest';
import type { RunStarted } from '../../src/contracts/index.ts';
import { until } from '../support/until.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A process of its own. It is killed at the end of the test at the latest. */
export interface TestProcess {
  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void;
  /** Resolves once a line of its stderr contains the text; rejects when it ends before. */
  untilLogged(text: string): Promise<void>;
  /** How it ended, once it has: an exit code or the name of a signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** What it wrote to stderr. */
  log(): string;
}

interface ProcessOptions {
  env: Record<string, string>;
  /** Modules that are loaded before the program. */
  preloads?: readonly URL[];
  stdin?: string;
}

function startProcess(args: readonly string[], { env, preloads = [], stdin = '' }: ProcessOptions): TestProcess {
  const imports = ['tsx', ...preloads.map((preload) => preload.href)].flatMap((module) => ['--import', module]);
  const child = spawn(process.execPath, [...imports, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    log += chunk;
  });
  child.stdin.end(stdin);
  onTestFailed(() => void process.stderr.write(`what process ${child.pid} logged:\n${log}`));
  const ended = once(child, 'exit').then(
    ([code, signal]: (number | NodeJS.Signals | null)[]) => (code ?? signal) as number | NodeJS.Signals,
  );
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  onTestFinished(async () => {
    if (!hasEnded()) child.kill('SIGKILL');
    await ended;
  });
  return {
    kill: (signal) => child.kill(signal),
    ended,
    log: () => log,
    untilLogged: async (text) => {
      await until(() => log.includes(text) || hasEnded(), { timeoutMs: 40_000, what: `the log line “${text}”` });
      if (!log.includes(text)) throw new Error(`the process ended without logging “${text}”:\n${log}`);
    },
  };
}

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

/** Starts `lessor worker`; it is at work once it has logged `worker started`. */
export function spawnWorker(
  { database, queueUrl, prefix }: ProcessStores,
  flags: readonly string[] = [],
  { env = {}, preloads = [] }: SpawnOptions = {},
): TestProcess {
  const stores = { DATABASE_URL: database.url, QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix };
  return startProcess(['src/cli.ts', 'worker', ...flags], { env: { ...stores, LOG_LEVEL: 'info', ...env }, preloads });
}

/** Starts a heartbeat service that publishes starts, and ends. */
export function spawnPublisher(
  { queueUrl, prefix }: Pick<ProcessStores, 'queueUrl' | 'prefix'>,
  starts: readonly RunStarted[],
): TestProcess {
  const script = fileURLToPath(new URL('./publish-starts.ts', import.meta.url));
  const env = { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix };
  return startProcess([script], { env, stdin: JSON.stringify(starts) });
}
