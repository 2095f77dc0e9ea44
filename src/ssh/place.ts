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
export type Place = string;

/** The directory that holds all places of a workspace path. */
export const PLACES_DIRECTORY = '.lessor';

/** The variable that every process of a place has in its environment: by it they are found again. */
export const PLACE_VARIABLE = 'LESSOR_PLACE';

type PlacesConfig = Pick<SshConfig, 'remoteWorkspacePath'>;

const LEASE_ID = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/** The directory of all places of an environment. */
export function placesPathOf(config: PlacesConfig): string {
  return posix.join(config.remoteWorkspacePath, PLACES_DIRECTORY);
}

/**
 * The place that a lease makes for itself.
 * @throws {EnvironmentFailedError} `workspace_unusable` when the id is no UUID
 */
export function placeOf(config: PlacesConfig, leaseId: string): Place {
  const place = posix.join(placesPathOf(config), leaseId);
  assertPlaceOf(config, place);
  return place;
}

/** Where the run's files are. */
export function workspacePathOf(
  config: Pick<SshConfig, 'remoteWorkspacePath' | 'workspaceMode'>,
  place: Place,
): string {
  return config.workspaceMode === 'staged' ? posix.join(place, 'workspace') : config.remoteWorkspacePath;
}

/** Where the scripts and process ids of executions are. */
export function commandsPathOf(place: Place): string {
  return posix.join(place, 'commands');
}

/**
 * Refuses what is not a place of the environment, so that nothing else is ever used or removed as one.
 * @throws {EnvironmentFailedError} `workspace_unusable`
 */
export function assertPlaceOf(config: PlacesConfig, place: string): asserts place is Place {
  const leaseId = posix.basename(place);
  if (LEASE_ID.test(leaseId) && place === posix.join(placesPathOf(config), leaseId)) return;
  throw new EnvironmentFailedError(
    'workspace_unusable',
    `${JSON.stringify(place)} is not a place of this environment, whose places are directly under ` +
      `${placesPathOf(config)}; was its remoteWorkspacePath changed since? Then remove what is left there by hand`,
  );
}
