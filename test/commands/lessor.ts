import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { EventEmitter } from 'node:events';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { onTestFinished, vi } from 'vitest';

/** The exit and the output of a `lessor`. */
export interface LessorEnd {
  /** The exit code, or the name of the signal that ended it. */
  exit: number | NodeJS.Signals;
  stdout: string;
  stderr: string;
}

/** The input of a `lessor` besides its arguments. */
export interface LessorInput {
  /** Added to the inherited variables, from which every setting of Lessor is removed. */
  env?: Readonly<Record<string, string>>;
  stdin?: string;
}

/** Every variable that `lessor` reads: unset, unless a test sets it. */
const VARIABLES = [
  'COMPANY_REGISTRATION',
  'CONCURRENCY',
  'DASHBOARD_HOST',
  'DASHBOARD_PASSWORD',
  'DASHBOARD_PORT',
  'DASHBOARD_USERNAME',
  'DATABASE_URL',
  'DEFAULT_TTL',
  'DRIVER_CONCURRENCY',
  'ENABLE_ENVIRONMENTS',
  'ENVIRONMENT_CONCURRENCY',
  'LEASE_WAIT',
  'LESSOR_SECRET_KEY',
  'LOCK_DURATION',
  'LOGNAME',
  'LOG_LEVEL',
  'OUTBOX_POLL_INTERVAL',
  'QUEUE_PREFIX',
  'QUEUE_URL',
  'RELEASE_ATTEMPTS',
  'REPLICA',
  'REQUIRE_DURABLE_QUEUE',
  'RUN_RETENTION',
  'SHUTDOWN_TIMEOUT',
  'SWEEP_INTERVAL',
  'USER',
];

const SHUTDOWN_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Runs the whole of `src/cli.ts` in this process, which saves the second of CPU that starting one costs. For what
 * neither waits for signals nor lets a command write: use {@link spawnLessor} for those. One at a time.
 */
export async function lessor(args: readonly string[], { env = {}, stdin = '' }: LessorInput = {}): Promise<LessorEnd> {
  const { argv, exitCode } = process;
  const listeners = SHUTDOWN_SIGNALS.map((signal) => [signal, process.listeners(signal)] as const);
  for (const variable of VARIABLES) vi.stubEnv(variable, env[variable]);
  const errorListeners = [process.stdout, process.stderr].map((stream) => [stream, stream.listeners('error')] as const);
  const stdinSpy = vi.spyOn(process, 'stdin', 'get').mockReturnValue(Readable.from([stdin]) as typeof process.stdin);
  const stdout = captureWrites(process.stdout);
  const stderr = captureWrites(process.stderr);
  process.argv = [process.execPath, CLI, ...args];
  process.exitCode = undefined;
  try {
    vi.resetModules();
    await import('../../src/cli.ts');
    return { exit: exitCodeByNow(), stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    process.argv = argv;
    process.exitCode = exitCode;
    stdout.release();
    stderr.release();
    stdinSpy.mockRestore();
    vi.unstubAllEnvs();
    for (const [signal, known] of listeners) removeNewListeners(process, signal, known);
    for (const [stream, known] of errorListeners) removeNewListeners(stream, 'error', known);
  }
}

/** A `lessor` in a process of its own. */
export interface RunningLessor {
  readonly child: ChildProcess;
  /** What it has written to stdout by now. */
  stdout(): string;
  stderr(): string;
  /** Waits until it is gone and everybody who could write to its output is too. */
  ended(): Promise<LessorEnd>;
}

/** Starts `lessor` as a process, which is killed when it outlives the test. */
export function spawnLessor(args: readonly string[], options: SpawnOptions = {}): RunningLessor {
  return spawnWatched(process.execPath, [...LESSOR_ARGS, ...args], options);
}

/** The command line that starts `lessor`, without the program. */
const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
export const LESSOR_ARGS: readonly string[] = ['--import', import.meta.resolve('tsx'), CLI];

interface SpawnOptions {
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Whether it leads a process group of its own, as what is started from a terminal does. */
  detached?: boolean;
  /** Whether its stdin can be written to. Default: it is empty. */
  stdin?: 'pipe' | 'ignore';
}

/** Starts a program and collects what it writes. */
export function spawnWatched(file: string, args: readonly string[], options: SpawnOptions = {}): RunningLessor {
  const { env = {}, stdin = 'ignore', detached = false, cwd } = options;
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !VARIABLES.includes(name)));
  const child = spawn(file, args, {
    env: { ...inherited, ...env },
    stdio: [stdin, 'pipe', 'pipe'],
    detached,
    ...(cwd === undefined ? {} : { cwd }),
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  closed.catch(() => undefined);
  return {
    child,
    stdout,
    stderr,
    async ended() {
      const [code, signal] = await closed;
      return { exit: code ?? signal!, stdout: stdout(), stderr: stderr() };
    },
  };
}

function collect(stream: Readable | null): () => string {
  const chunks: string[] = [];
  stream?.setEncoding('utf8').on('data', (chunk: string) => chunks.push(chunk));
  return () => chunks.join('');
}

/** Asked here, since a compiler believes that the assignment further up still holds. */
function exitCodeByNow(): number {
  return Number(process.exitCode ?? 0);
}

function captureWrites(stream: NodeJS.WriteStream): { text(): string; release(): void } {
  const chunks: string[] = [];
  const spy = vi.spyOn(stream, 'write').mockImplementation((chunk) => {
    chunks.push(String(chunk));
    return true;
  });
  return { text: () => chunks.join(''), release: () => spy.mockRestore() };
}

function removeNewListeners(emitter: EventEmitter, event: string, known: readonly unknown[]): void {
  for (const listener of emitter.listeners(event)) {
    if (!known.includes(listener)) emitter.off(event, listener as () => void);
  }
}
