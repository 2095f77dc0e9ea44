import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { until } from './until.ts';

/** The root of the package. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The `lessor` command from source, as arguments of Node. */
export const LESSOR_FROM_SOURCE: readonly string[] = ['--import', import.meta.resolve('tsx'), `${ROOT}src/cli.ts`];

/** The compiled `lessor` command, as arguments of Node. It starts in a third of the time. */
export const LESSOR_COMPILED: readonly string[] = [`${ROOT}dist/cli.js`];

/** Where a process finds its stores. */
export interface ProcessStores {
  databaseUrl: string;
  queueUrl: string;
  prefix?: string;
}

/** The environment of a process that works on these stores. */
export function environmentFor({ databaseUrl, queueUrl, prefix }: ProcessStores): NodeJS.ProcessEnv {
  return {
    ...process.env,
    DATABASE_URL: databaseUrl,
    QUEUE_URL: queueUrl,
    ...(prefix === undefined ? {} : { QUEUE_PREFIX: prefix }),
    LOG_LEVEL: 'error',
  };
}

/** A running Node process. */
export interface NodeProcess {
  readonly pid: number;
  /** Its exit code, or the signal that ended it; undefined while it runs. */
  exit(): number | NodeJS.Signals | undefined;
  /** Resolves to its exit code or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
  /** Asks it to stop, unless it has ended, and resolves when it is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** What it wrote to stderr, where that is recorded. */
  log(): string;
  /** Resolves once its recorded stderr contains the text; rejects when it ends before. */
  untilLogged(text: string): Promise<void>;
}

/** Options of {@link spawnNode}. */
export interface SpawnOptions {
  /** Default: the environment of this process. */
  env?: NodeJS.ProcessEnv;
  /** What it reads from stdin; default nothing. */
  stdin?: string;
  /** `record` keeps it for `log()`; a function is called with each line. Default: it is written to this process's. */
  stderr?: 'inherit' | 'record' | ((line: string) => void);
}

/** Starts a Node process in the root of the package. Its stdout is discarded. */
export function spawnNode(args: readonly string[], options: SpawnOptions = {}): NodeProcess {
  const { env = process.env, stdin = '', stderr = 'inherit' } = options;
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env,
    stdio: ['pipe', 'ignore', stderr === 'inherit' ? 'inherit' : 'pipe'],
  });
  let log = '';
  if (stderr === 'record') child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (log += chunk));
  if (typeof stderr === 'function') createInterface({ input: child.stderr! }).on('line', stderr);
  child.stdin!.end(stdin);
  const exit = () => child.exitCode ?? child.signalCode ?? undefined;
  const ended = once(child, 'exit').then(() => exit()!);
  return {
    pid: child.pid!,
    exit,
    ended,
    kill: (signal) => void child.kill(signal),
    async stop(signal = 'SIGTERM') {
      if (exit() === undefined) child.kill(signal);
      await ended;
    },
    log: () => log,
    async untilLogged(text) {
      const what = `the log line “${text}”`;
      await until(() => log.includes(text) || exit() !== undefined, { timeoutMs: 40_000, what });
      if (!log.includes(text)) throw new Error(`the process ended without ${what}:\n${log}`);
    },
  };
}

/** Options of {@link spawnWorker}. */
export interface SpawnWorkerOptions extends Omit<SpawnOptions, 'stdin'> {
  /** The command as arguments of Node; default {@link LESSOR_FROM_SOURCE}. */
  command?: readonly string[];
  /** Modules that are loaded before the command. */
  preloads?: readonly URL[];
}

/** Starts a `lessor worker`. It processes jobs once it has logged `worker started` (at LOG_LEVEL `info`). */
export function spawnWorker(
  stores: ProcessStores,
  flags: readonly string[] = [],
  { command = LESSOR_FROM_SOURCE, preloads = [], env = {}, stderr = 'inherit' }: SpawnWorkerOptions = {},
): NodeProcess {
  const imports = preloads.flatMap((preload) => ['--import', preload.href]);
  // Preloads are TypeScript: the loader of the command comes first.
  const [loader, cli] = [command.slice(0, -1), command.slice(-1)];
  return spawnNode([...loader, ...imports, ...cli, 'worker', ...flags], {
    env: { ...environmentFor(stores), ...env },
    stderr,
  });
}
