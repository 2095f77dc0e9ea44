import { posix } from 'node:path';
import { EnvironmentFailedError } from '../contracts/index.ts';
import type { SshConfig } from './config.ts';

/**
 * The directory of a lease on its host, `<remoteWorkspacePath>/.lessor/<lease id>`, as an absolute path. It holds:
 * - `.gitignore`, so that a checkout does not list it
 * - `workspace/`, unless the environment works in place, on the checkout itself
 * - `uploaded.json`, the record of the last upload into `workspace/`
 * - `commands/`, with the scripts and process ids of executed commands
 */
export type LeaseDirectory = string;

/** The directory that holds the lease directories of an environment, below its `remoteWorkspacePath`. */
export const LEASES_DIRECTORY = '.lessor';

/** The environment variable by which the processes of a lease directory are found. The shell programs name it too. */
export const LEASE_DIRECTORY_VARIABLE = 'LESSOR_LEASE_DIRECTORY';

/** Defines the shell function `lessor_record_process FILE`. */
export const RECORD_PROCESS = new URL('./process-record.sh', import.meta.url);

/** Defines the shell function `lessor_end_processes DIRECTORY GRACE_SECONDS`; needs {@link RECORD_PROCESS} before it. */
export const END_PROCESSES = new URL('./end-processes.sh', import.meta.url);

type WorkspacePathConfig = Pick<SshConfig, 'remoteWorkspacePath'>;

const LEASE_ID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/**
 * The lease directory that a lease creates for itself.
 * @throws {EnvironmentFailedError} `workspace_unusable` when the id is no UUID
 */
export function leaseDirectoryOf(config: WorkspacePathConfig, leaseId: string): LeaseDirectory {
  const directory = posix.join(leasesDirectoryOf(config), leaseId);
  assertLeaseDirectory(config, directory);
  return directory;
}

/** The directory with the run's files. */
export function workspacePathOf(
  config: Pick<SshConfig, 'remoteWorkspacePath' | 'workspaceMode'>,
  directory: LeaseDirectory,
): string {
  return config.workspaceMode === 'staged' ? posix.join(directory, 'workspace') : config.remoteWorkspacePath;
}

/** The directory with the scripts and process ids of executed commands. */
export function commandsDirectoryOf(directory: LeaseDirectory): string {
  return posix.join(directory, 'commands');
}

/**
 * Rejects every path that is not a lease directory of the environment, so that nothing else is ever used or removed.
 * @throws {EnvironmentFailedError} `workspace_unusable`
 */
export function assertLeaseDirectory(config: WorkspacePathConfig, path: string): asserts path is LeaseDirectory {
  const leaseId = posix.basename(path);
  if (LEASE_ID.test(leaseId) && path === posix.join(leasesDirectoryOf(config), leaseId)) return;
  throw new EnvironmentFailedError(
    'workspace_unusable',
    `${JSON.stringify(path)} is not a lease directory of this environment, which are directly under ` +
      `${leasesDirectoryOf(config)}; was its remoteWorkspacePath changed since? Then remove the old one by hand`,
  );
}

function leasesDirectoryOf(config: WorkspacePathConfig): string {
  return posix.join(config.remoteWorkspacePath, LEASES_DIRECTORY);
}
