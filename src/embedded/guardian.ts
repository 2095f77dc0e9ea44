/**
 * The process between an owner and its PostgreSQL. It runs the server for as long as its standard input is open,
 * which the kernel closes whatever happens to the owner, and tidies up afterwards.
 *
 * @module
 */
import { openCluster, LESSOR } from './cluster.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { launchServer } from './launch.ts';
import { findPrograms } from './programs.ts';
import { guardianRequestSchema, type GuardianReport, type GuardianRequest } from './protocol.ts';
import type { Server } from './server.ts';
import { chooseServerAccount } from './server-account.ts';
import { openServerDirectory, type ServerDirectory } from './server-directory.ts';

/**
 * For a temporary directory only: it is removed with its server, so nothing in it has to survive a crash of the
 * machine, and not waiting for the disk makes every commit of a test suite faster. A kept directory has Postgres's
 * own, durable, defaults.
 */
const THROWAWAY_SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

function watchOwner(): AbortSignal {
  const ownerGone = new AbortController();
  const leave = () => ownerGone.abort();
  process.stdin.on('end', leave).on('error', leave).resume();
  // Writing fails when the owner is gone.
  process.stdout.on('error', leave);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, leave);
  return ownerGone.signal;
}

async function guard(request: GuardianRequest, ownerGone: AbortSignal): Promise<void> {
  const account = await chooseServerAccount();
  const programs = await findPrograms(account);
  const directory = await openServerDirectory(request.dataDirectory, account);
  try {
    const cluster = await openCluster({ directory, programs, account, signal: ownerGone });
    const settings = chooseSettings(directory, request);
    const launch = { postgres: programs.postgres, cluster, account, settings, signal: ownerGone };
    const server = await launchServer(launch, request.port);
    const url = `postgres://${LESSOR}:${cluster.password}@127.0.0.1:${server.port}/${LESSOR}`;
    report({ kind: 'ready', url, directory: directory.path });
    await runUntilOwnerGone(server, ownerGone);
  } finally {
    await directory.release();
  }
}

function chooseSettings(directory: ServerDirectory, request: GuardianRequest): Record<string, string> {
  return directory.temporary ? { ...THROWAWAY_SETTINGS, ...request.settings } : request.settings;
}

async function runUntilOwnerGone(server: Server, ownerGone: AbortSignal): Promise<void> {
  const left = new Promise<'left'>((resolve) => {
    if (ownerGone.aborted) resolve('left');
    ownerGone.addEventListener('abort', () => resolve('left'), { once: true });
  });
  const outcome = await Promise.race([left, server.ended]);
  if (outcome === 'left') return server.stop();
  const message = `PostgreSQL ended with ${outcome} on its own. Its last words:\n${server.output.text}`;
  throw new EmbeddedPostgresError('server_failed', message);
}

function report(message: GuardianReport): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

function reportFailure(error: unknown): void {
  const code = error instanceof EmbeddedPostgresError ? error.code : 'supervisor_failed';
  report({ kind: 'failed', code, message: error instanceof Error ? error.message : String(error) });
  process.exitCode = 1;
}

const ownerGone = watchOwner();
try {
  await guard(guardianRequestSchema.parse(JSON.parse(process.argv[2] ?? 'null')), ownerGone);
} catch (error) {
  // A start that was given up because the owner left has nobody to report to, and has not failed.
  const givenUp = ownerGone.aborted && error instanceof Error && error.name === 'AbortError';
  if (!givenUp) reportFailure(error);
} finally {
  process.stdin.destroy();
}
