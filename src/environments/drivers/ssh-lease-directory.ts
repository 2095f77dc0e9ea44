import { randomUUID } from 'node:crypto';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { addressOf } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import type { SshConnection } from '../../ssh/connection.ts';
import { END_PROCESSES, RECORD_PROCESS, assertLeaseDirectory } from '../../ssh/lease-directory.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import { readShellPrograms } from '../../ssh/script.ts';

/** A lease directory to create or remove. */
export interface LeaseDirectoryRequest {
  config: SshConfig;
  directory: LeaseDirectory;
  /** From SIGTERM to SIGKILL for the processes of the directory, in whole seconds. */
  graceSeconds: number;
  signal: AbortSignal;
}

const LEASE_DIRECTORY_PROGRAM = new URL('./ssh-lease-directory.sh', import.meta.url);

/** The program's exit code when the workspace cannot be used. */
const EXIT_UNUSABLE = 10;

/**
 * Creates a lease directory, or reuses the one of an earlier lease with its files and ends what still runs in it.
 * Repeating it is harmless.
 * @throws {EnvironmentFailedError} workspace_unusable when the host has no such workspace, or nothing can be created in
 * it; driver_failed when a process cannot be ended
 */
export async function createLeaseDirectory(
  connection: SshConnection,
  request: LeaseDirectoryRequest & { isReused: boolean },
): Promise<void> {
  await runAction(connection, request.isReused ? 'reuse' : 'create', request);
}

/**
 * Ends what runs in a lease directory and removes it. One that is already gone is no failure.
 * @throws {EnvironmentFailedError} workspace_unusable when part of it cannot be removed, driver_failed when a process
 * cannot be ended
 */
export async function removeLeaseDirectory(connection: SshConnection, request: LeaseDirectoryRequest): Promise<void> {
  await runAction(connection, 'remove', request);
}

/**
 * Writes a file into the workspace and removes it.
 * @throws {EnvironmentFailedError} workspace_unusable
 */
export async function probeWorkspace(connection: SshConnection, config: SshConfig, signal: AbortSignal): Promise<void> {
  const file = `.lessor-probe-${randomUUID()}`;
  await runProgram(connection, { config, args: ['probe', config.remoteWorkspacePath, file], signal });
}

async function runAction(
  connection: SshConnection,
  action: 'create' | 'reuse' | 'remove',
  { config, directory, graceSeconds, signal }: LeaseDirectoryRequest,
): Promise<void> {
  assertLeaseDirectory(config, directory);
  const args = [action, config.remoteWorkspacePath, directory, config.workspaceMode, String(graceSeconds)];
  await runProgram(connection, { config, args, signal });
}

async function runProgram(
  connection: SshConnection,
  { config, args, signal }: { config: SshConfig; args: readonly string[]; signal: AbortSignal },
): Promise<void> {
  const program = await readShellPrograms(RECORD_PROCESS, END_PROCESSES, LEASE_DIRECTORY_PROGRAM);
  const result = await connection.runScript(program, { arguments: args, signal });
  if (result.code === 0) return;
  const ended = result.signal ?? `exit code ${result.code}`;
  const printed = result.stderr.trim() || `a script ended with ${ended} and did not say why`;
  throw new EnvironmentFailedError(
    result.code === EXIT_UNUSABLE ? 'workspace_unusable' : 'driver_failed',
    `on ${addressOf(config)}, ${printed}`,
  );
}
