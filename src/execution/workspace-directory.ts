import { realpath, stat } from 'node:fs/promises';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { reasonOf } from './workspace/file-errors.ts';

/**
 * The directory of a workspace on this machine, without symlinks in its path.
 * @throws {InvalidConfigurationError} when there is no such directory
 */
export async function realWorkspaceDirectory(directory: string): Promise<string> {
  try {
    const path = await realpath(directory);
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    throw new InvalidConfigurationError(`the workspace directory ${directory} cannot be used: ${reasonOf(error)}`);
  }
  throw new InvalidConfigurationError(`the workspace directory ${directory} is no directory`);
}
