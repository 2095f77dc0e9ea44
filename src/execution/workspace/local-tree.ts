import { isUtf8 } from 'node:buffer';
import type { Stats } from 'node:fs';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { SkippedEntry, WorkspaceEntry, WorkspaceTree } from './workspace-entry.ts';
import { PERMISSIONS, pathIn } from './workspace-entry.ts';
import { isMissing, reasonOf } from './file-errors.ts';

/** The files of a workspace on this machine. */
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
      // It was removed while the workspace was walked.
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
