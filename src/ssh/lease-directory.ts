import { posix } from 'node:path';
import { EnvironmentFailedError } from '../contracts/index.ts';
import type { SshConfig } from './config.ts';

/**
 * A place is what a lease has on a host: a directory `<remoteWorkspacePath>/.lessor/<lease id>`, called by its absolute
 * path. It holds:
 * - `.gitignore`, so that a checkout does not show it
 * - `workspace/`, unless the workspace is the checkout itself
 * - `uploaded.json`, which tells of the files that the last upload has left in it
 * - `commands/`, with the scripts and process ids of what is executed
 */
export type LeaseDirectory = string;

/** The directory that holds all places of a workspace path. */
export const LEASES_DIRECTORY = '.lessor';

/** The variable that every process of a place has in its environment: by it they are found again. */
export const LEASE_DIRECTORY_VARIABLE = 'LESSOR_LEASE_DIRECTORY';

type WorkspacePathConfig = Pick<SshConfig, 'remoteWorkspacePath'>;

const LEASE_ID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/** The directory of all places of an environment. */
export function leasesDirectoryOf(config: WorkspacePathConfig): string {
  return posix.join(config.remoteWorkspacePath, LEASES_DIRECTORY);
}

/**
 * The place that a lease makes for itself.
 * @throws {EnvironmentFailedError} `workspace_unusable` when the id is no UUID
 */
export function leaseDirectoryOf(config: WorkspacePathConfig, leaseId: string): LeaseDirectory {
  const place = posix.join(leasesDirectoryOf(config), leaseId);
  assertLeaseDirectory(config, place);
  return place;
}

/** Where the run's files are. */
export function workspacePathOf(
  config: Pick<SshConfig, 'remoteWorkspacePath' | 'workspaceMode'>,
  place: LeaseDirectory,
): string {
  return config.workspaceMode === 'staged' ? posix.join(place, 'workspace') : config.remoteWorkspacePath;
}

/** Where the scripts and process ids of executions are. */
export function commandsDirectoryOf(place: LeaseDirectory): string {
  return posix.join(place, 'commands');
}

/**
 * Refuses what is not a place of the environment, so that nothing else is ever used or removed as one.
 * @throws {EnvironmentFailedError} `workspace_unusable`
 */
export function assertLeaseDirectory(config: WorkspacePathConfig, place: string): asserts place is LeaseDirectory {
  const leaseId = posix.basename(place);
  if (LEASE_ID.test(leaseId) && place === posix.join(leasesDirectoryOf(config), leaseId)) return;
  throw new EnvironmentFailedError(
    'workspace_unusable',
    `${JSON.stringify(place)} is not a place of this environment, whose places are directly under ` +
      `${leasesDirectoryOf(config)}; was its remoteWorkspacePath changed since? Then remove what is left there by hand`,
  );
}
