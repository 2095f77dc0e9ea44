import { isUtf8 } from 'node:buffer';
import type { Stats } from 'node:fs';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidConfigurationError } from '../../contracts/index.ts';
import { hasCode, messageOf } from '../../lib/errors.ts';
import { PERMISSIONS, pathIn } from './walk-workspace.ts';
import type { SkippedEntry, WorkspaceEntry, WorkspaceTree } from './walk-workspace.ts';

/**
 * The path of a local workspace without symlinks.
 * @throws {InvalidConfigurationError} when there is no such directory
 */
export async function resolveWorkspaceDirectory(directory: string): Promise<string> {
  try {
    const path = await realpath(directory);
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    throw new InvalidConfigurationError(`the workspace directory ${directory} cannot be used: ${reasonOf(error)}`);
  }
  throw new InvalidConfigurationError(`the workspace directory ${directory} is no directory`);
}

/** Whether a file operation failed because nothing exists at the path. */
export function isMissing(error: unknown): boolean {
  return hasCode(error, 'ENOENT', 'ENOTDIR');
}

/** Why a file operation failed, for people: without the path, which stands beside it. */
export function reasonOf(error: unknown): string {
  return messageOf(error).replace(/^([A-Z]+: [^,]+), .*$/s, '$1');
}

/** The files of a local workspace. */
export class LocalTree implements WorkspaceTree {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async list(directory: string): Promise<(WorkspaceEntry | SkippedEntry)[]> {
    let names: Buffer[];
    try {
      names = await readdir(join(this.#root, directory), { encoding: 'buffer' });
    } catch (error) {
      // It was removed during the walk.
      if (isMissing(error)) return [];
      if (directory === '') throw error;
      return [{ kind: 'skipped', path: directory, reason: reasonOf(error) }];
    }
    const entries = await Promise.all(
      names.toSorted((one, other) => one.compare(other)).map((name) => this.#entry(directory, name)),
    );
    return entries.filter((entry) => entry !== undefined);
  }

  async readBeginning(path: string, maximumBytes: number): Promise<Buffer> {
    const file = await open(join(this.#root, path), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(maximumBytes), 0, maximumBytes, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  }

  async #entry(directory: string, nameBytes: Buffer): Promise<WorkspaceEntry | SkippedEntry | undefined> {
    const path = pathIn(directory, nameBytes.toString('utf8'));
    if (!isUtf8(nameBytes)) return { kind: 'skipped', path, reason: 'its name is not UTF-8' };
    try {
      return entryOf(path, await lstat(join(this.#root, path)), () => readlink(join(this.#root, path)));
    } catch (error) {
      if (isMissing(error)) return undefined;
      return { kind: 'skipped', path, reason: reasonOf(error) };
    }
  }
}

async function entryOf(
  path: string,
  stats: Stats,
  readTarget: () => Promise<string>,
): Promise<WorkspaceEntry | SkippedEntry> {
  const mode = stats.mode & PERMISSIONS;
  if (stats.isFile()) return { kind: 'file', path, size: stats.size, mode, mtime: Math.floor(stats.mtimeMs / 1_000) };
  if (stats.isDirectory()) return { kind: 'directory', path, mode };
  if (stats.isSymbolicLink()) return { kind: 'symlink', path, target: await readTarget() };
  return { kind: 'skipped', path, reason: 'it is neither a file, a directory nor a symlink' };
}
