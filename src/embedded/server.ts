import { setTimeout as delay } from 'node:timers/promises';
import getPort from 'get-port';
import type { Cluster } from './cluster.ts';
import { EmbeddedPostgresError, type EmbeddedPostgresErrorCode } from './errors.ts';
import type { OutputTail } from './output-tail.ts';
import { startProgram, type RunningProgram } from './program.ts';
import type { ServerAccount } from './server-account.ts';

/** Another process may take a free port before the server binds it. */
const PORT_ATTEMPTS = 5;

/** A server whose parent has just ended, as on restarts under a file watcher, holds its data directory a little longer. */
const PREDECESSOR_GRACE_MS = 5_000;
const PREDECESSOR_POLL_MS = 100;

/** A server that accepts connections. */
export interface Server {
  readonly port: number;
  readonly output: OutputTail;
  /** Resolves when the server has ended, for whatever reason. */
  readonly ended: Promise<number | NodeJS.Signals>;
  stop(): Promise<void>;
}

export interface ServerLaunch {
  readonly postgres: string;
  readonly cluster: Cluster;
  readonly account: ServerAccount | undefined;
  readonly settings: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** Long enough for a kept directory to recover from a crash. */
const START_TIMEOUT_MS = 60_000;

/** Fast shutdown, then immediate, then SIGKILL, each with its timeout. */
const STOP_STEPS = [
  ['SIGINT', 10_000],
  ['SIGQUIT', 5_000],
  ['SIGKILL', 5_000],
] as const;

/** Starts Postgres on this port and waits until it accepts connections; on any failure nothing is left running. */
async function startServer(launch: ServerLaunch, port: number): Promise<Server> {
  launch.signal.throwIfAborted();
  const { postgres, cluster, account, settings } = launch;
  const running = startProgram({
    path: postgres,
    args: ['-D', cluster.data, ...serverFlags({ ...settings, ...fixedSettings(port) })],
    account,
    workingDirectory: cluster.data,
  });
  try {
    await waitUntilReady(running, launch.signal);
  } catch (error) {
    await endServer(running);
    throw error;
  }
  return { port, output: running.output, ended: running.ended, stop: () => stopServer(running) };
}

/** What no setting of the caller may change: this module relies on it. */
function fixedSettings(port: number): Record<string, string> {
  return {
    listen_addresses: '127.0.0.1',
    port: String(port),
    // No socket file: their directories come with permissions and length limits of their own.
    unix_socket_directories: '',
    // The supervisor reads the log to see that the server is ready, and quotes it on failure.
    log_destination: 'stderr',
    logging_collector: 'off',
    log_min_messages: 'warning',
    lc_messages: 'C',
  };
}

function serverFlags(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

async function waitUntilReady({ child, output, ended }: RunningProgram, signal: AbortSignal): Promise<void> {
  const settled = new AbortController();
  const within = AbortSignal.any([signal, settled.signal]);
  const ready = new Promise<'ready'>((resolve) => {
    const checkOutput = () => {
      if (output.includes(/database system is ready to accept connections/)) resolve('ready');
    };
    child.stderr.on('data', checkOutput);
    within.addEventListener('abort', () => child.stderr.off('data', checkOutput), { once: true });
  });
  try {
    const outcome = await Promise.race([ready, ended, delay(START_TIMEOUT_MS, 'late' as const, { signal: within })]);
    if (outcome === 'ready') return;
    if (outcome === 'late') {
      throw new EmbeddedPostgresError(
        'start_timeout',
        `PostgreSQL was not ready in time. Its output ended:\n${output.text}`,
      );
    }
    throw startFailure(outcome, output);
  } finally {
    settled.abort();
  }
}

function startFailure(end: number | NodeJS.Signals, output: OutputTail): EmbeddedPostgresError {
  const [code, advice] = diagnose(output);
  return new EmbeddedPostgresError(code, `PostgreSQL ended with ${end} ${advice}. Its output ended:\n${output.text}`);
}

function diagnose(output: OutputTail): [EmbeddedPostgresErrorCode, string] {
  if (output.includes(/lock file "postmaster\.pid" already exists|pre-existing shared memory block/)) {
    return [
      'data_directory_in_use',
      'because another server runs on its data: stop that one, or set DATABASE_URL to it',
    ];
  }
  if (output.includes(/Address already in use|Only one usage of each socket address/)) {
    return ['port_in_use', 'because its port is taken: choose another port, or none for any that is free'];
  }
  return ['server_failed', 'before it was ready'];
}

async function stopServer(running: RunningProgram): Promise<void> {
  await endServer(running);
  const end = await running.ended;
  if (end === 0) return;
  const message = `PostgreSQL ended with ${end} instead of shutting down. Its output ended:\n${running.output.text}`;
  throw new EmbeddedPostgresError('server_failed', message);
}

async function endServer({ child, output, ended }: RunningProgram): Promise<void> {
  for (const [signal, timeoutMs] of STOP_STEPS) {
    child.kill(signal);
    if (await endsWithin(ended, timeoutMs)) return;
  }
  throw new EmbeddedPostgresError(
    'server_failed',
    `PostgreSQL (pid ${child.pid}) does not end. Its output ended:\n${output.text}`,
  );
}

async function endsWithin(ended: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const settled = new AbortController();
  try {
    const late = delay(milliseconds, 'late' as const, { signal: settled.signal });
    return (await Promise.race([ended, late])) !== 'late';
  } finally {
    settled.abort();
  }
}

/** Starts the server on the wanted port, or on one that is free. */
export async function launchServer(launch: ServerLaunch, wantedPort: number | null): Promise<Server> {
  if (wantedPort !== null) return startAfterPredecessor(launch, wantedPort);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startAfterPredecessor(launch, await getPort({ host: '127.0.0.1' }));
    } catch (error) {
      if (!isFailure(error, 'port_in_use') || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

async function startAfterPredecessor(launch: ServerLaunch, port: number): Promise<Server> {
  const graceEnd = Date.now() + PREDECESSOR_GRACE_MS;
  for (;;) {
    try {
      return await startServer(launch, port);
    } catch (error) {
      if (!isFailure(error, 'data_directory_in_use') || Date.now() > graceEnd) throw error;
    }
    await delay(PREDECESSOR_POLL_MS, undefined, { signal: launch.signal });
  }
}

function isFailure(error: unknown, code: EmbeddedPostgresError['code']): boolean {
  return error instanceof EmbeddedPostgresError && error.code === code;
}
