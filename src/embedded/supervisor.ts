/**
 * The process between a parent and its PostgreSQL. It runs the server for as long as its standard input is open,
 * which the kernel closes whatever happens to the parent, and cleans up afterwards.
 *
 * @module
 */
import { messageOf } from '../lib/errors.ts';
import { openCluster, LESSOR } from './cluster.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { findPrograms } from './programs.ts';
import { supervisorRequestSchema, type SupervisorReport, type SupervisorRequest } from './supervisor-process.ts';
import { launchServer } from './server.ts';
import type { Server } from './server.ts';
import { chooseServerAccount } from './server-account.ts';
import { openServerDirectory, type ServerDirectory } from './server-directory.ts';

/**
 * For a temporary directory only: it is removed with its server, so nothing in it has to survive a crash of the
 * machine, and not waiting for the disk makes every commit of a test suite faster. A kept directory has Postgres's
 * own, durable, defaults.
 */
const EPHEMERAL_SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

function watchParent(): AbortSignal {
  const parentEnded = new AbortController();
  const abort = () => parentEnded.abort();
  process.stdin.on('end', abort).on('error', abort).resume();
  // Writing fails once the parent has ended.
  process.stdout.on('error', abort);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, abort);
  return parentEnded.signal;
}

async function supervise(request: SupervisorRequest, parentEnded: AbortSignal): Promise<void> {
  const account = await chooseServerAccount();
  const programs = await findPrograms(account);
  const directory = await openServerDirectory(request.dataDirectory, account);
  try {
    const cluster = await openCluster({ directory, programs, account, signal: parentEnded });
    const settings = chooseSettings(directory, request);
    const launch = { postgres: programs.postgres, cluster, account, settings, signal: parentEnded };
    const server = await launchServer(launch, request.port);
    const url = `postgres://${LESSOR}:${cluster.password}@127.0.0.1:${server.port}/${LESSOR}`;
    report({ kind: 'ready', url, directory: directory.path });
    await runUntilParentEnded(server, parentEnded);
  } finally {
    await directory.release();
  }
}

function chooseSettings(directory: ServerDirectory, request: SupervisorRequest): Record<string, string> {
  return directory.temporary ? { ...EPHEMERAL_SETTINGS, ...request.settings } : request.settings;
}

async function runUntilParentEnded(server: Server, parentEnded: AbortSignal): Promise<void> {
  const untilParentEnds = new Promise<'parent ended'>((resolve) => {
    if (parentEnded.aborted) resolve('parent ended');
    parentEnded.addEventListener('abort', () => resolve('parent ended'), { once: true });
  });
  const outcome = await Promise.race([untilParentEnds, server.ended]);
  if (outcome === 'parent ended') return server.stop();
  const message = `PostgreSQL ended with ${outcome} on its own. Its output ended:\n${server.output.text}`;
  throw new EmbeddedPostgresError('server_failed', message);
}

function report(message: SupervisorReport): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function reportFailure(error: unknown): void {
  const code = error instanceof EmbeddedPostgresError ? error.code : 'supervisor_failed';
  report({ kind: 'failed', code, message: messageOf(error) });
  process.exitCode = 1;
}

const parentEnded = watchParent();
try {
  await supervise(supervisorRequestSchema.parse(JSON.parse(process.argv[2] ?? 'null')), parentEnded);
} catch (error) {
  // A start that was aborted because the parent has ended has nobody to report to, and has not failed.
  const wasAborted = parentEnded.aborted && error instanceof Error && error.name === 'AbortError';
  if (!wasAborted) reportFailure(error);
} finally {
  process.stdin.destroy();
}
