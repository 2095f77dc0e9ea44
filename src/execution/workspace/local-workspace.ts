import { createHash, randomUUID } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { constants } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, open, readlink, rename, rm, rmdir, symlink, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../../lib/errors.ts';
import { isMissing } from './file-errors.ts';
import type { Version } from './restore-decision.ts';
import { PERMISSIONS, directoriesAbove, directoryOf, pathIn } from './workspace-entry.ts';
import { OWN_DIRECTORY, UNFINISHED_PREFIX } from './walk-workspace.ts';

/** A version of a path here, and by what to see that it has become another one. */
export interface LocalVersion {
  version: Version;
  stamp: string;
  /** Whether all directories on the way are ones, or can be made. */
  isReachable: boolean;
}

/** A file that is written under another name until it takes its place. */
export interface UnfinishedFile {
  path: string;
  handle: FileHandle;
}

/**
 * Changes a workspace on this machine. Whatever paths it is given, it writes within the workspace only: no directory on
 * the way may be a symlink.
 */
export class LocalWorkspace {
  readonly #root: string;

  /** @param root the workspace itself, without symlinks in its path */
  constructor(root: string) {
    this.#root = root;
  }

  async versionAt(path: string): Promise<LocalVersion> {
    const obstacle = await this.#obstacleTo(path);
    if (obstacle !== undefined) {
      // Something may lie behind a symlink, but nothing in what is no directory.
      const version: Version = { kind: obstacle.isSymbolicLink() ? 'other' : 'absent' };
      return { version, stamp: 'out of reach', isReachable: false };
    }
    const stats = await this.#statsAt(path);
    const stamp = stampOf(stats);
    if (stats === undefined) return { version: { kind: 'absent' }, stamp, isReachable: true };
    try {
      return { version: await this.#version(path, stats), stamp, isReachable: true };
    } catch (error) {
      // Another one took its place meanwhile.
      if (isMissing(error) || hasCode(error, 'ELOOP', 'EINVAL')) return this.versionAt(path);
      throw error;
    }
  }

  /** Whether nothing has changed at a path since its version was looked at. */
  async isStill(path: string, { stamp }: LocalVersion): Promise<boolean> {
    return stampOf(await this.#statsAt(path)) === stamp;
  }

  /** Opens a file in the directory of a path, and makes the directories that lack. */
  async begin(path: string): Promise<UnfinishedFile> {
    await this.#makeDirectories(path);
    const unfinished = pathIn(directoryOf(path), `${UNFINISHED_PREFIX}${randomUUID()}`);
    const handle = await open(
      this.#at(unfinished),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    return { path: unfinished, handle };
  }

  async discard({ path, handle }: UnfinishedFile): Promise<void> {
    await handle.close();
    await unlink(this.#at(path));
  }

  /** Has an unfinished file take the place of what is at a path. A directory there is replaced if it is empty. */
  async finish(
    unfinished: UnfinishedFile,
    path: string,
    { mode, mtime }: { mode: number; mtime: number },
  ): Promise<void> {
    const { handle } = unfinished;
    try {
      await handle.chmod(mode);
      await handle.utimes(mtime, mtime);
    } finally {
      await handle.close();
    }
    await this.#replace(unfinished.path, path);
  }

  async putSymlink(path: string, target: string): Promise<void> {
    await this.#makeDirectories(path);
    const unfinished = pathIn(directoryOf(path), `${UNFINISHED_PREFIX}${randomUUID()}`);
    await symlink(target, this.#at(unfinished));
    await this.#replace(unfinished, path);
  }

  /** Makes a directory that can be written to for now. One that is there already is left as it is. */
  async putDirectory(path: string): Promise<void> {
    await this.#makeDirectories(pathIn(path, ''));
  }

  /** Removes a file, a symlink or an empty directory; false when a directory is not empty. */
  async remove(path: string): Promise<boolean> {
    const stats = await this.#statsAt(path);
    if (stats?.isDirectory()) return this.#removeDirectory(path);
    await unlink(this.#at(path));
    return true;
  }

  async setMode(path: string, mode: number): Promise<void> {
    await chmod(this.#at(path), mode);
  }

  /** Makes a directory of Lessor's own empty, and has git overlook all that is of Lessor. */
  async clearOwnDirectory(path: string): Promise<void> {
    await this.#makeDirectories(pathIn(path, ''));
    await rm(this.#at(path), { recursive: true });
    const ignoring = this.#at(pathIn(OWN_DIRECTORY, '.gitignore'));
    const file = await open(
      ignoring,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
    );
    await file.writeFile('*\n');
    await file.close();
  }

  async #replace(unfinished: string, path: string): Promise<void> {
    await this.#makeDirectories(path);
    const stats = await this.#statsAt(path);
    if (stats?.isDirectory()) await rmdir(this.#at(path));
    try {
      await rename(this.#at(unfinished), this.#at(path));
    } catch (error) {
      // What is kept aside can come from another file system that is mounted in the workspace.
      if (!hasCode(error, 'EXDEV')) throw error;
      await copyFile(this.#at(unfinished), this.#at(path), constants.COPYFILE_EXCL);
      await unlink(this.#at(unfinished));
    }
  }

  async #removeDirectory(path: string): Promise<boolean> {
    try {
      await rmdir(this.#at(path));
      return true;
    } catch (error) {
      if (hasCode(error, 'ENOTEMPTY', 'EEXIST')) return false;
      throw error;
    }
  }

  /** What stands in the place of a directory on the way to a path. */
  async #obstacleTo(path: string): Promise<BigIntStats | undefined> {
    for (const directory of directoriesAbove(path)) {
      const stats = await this.#statsAt(directory);
      if (stats === undefined) return undefined;
      if (!stats.isDirectory()) return stats;
    }
    return undefined;
  }

  async #makeDirectories(path: string): Promise<void> {
    for (const directory of directoriesAbove(path)) {
      const stats = await this.#statsAt(directory);
      if (stats?.isDirectory()) continue;
      await mkdir(this.#at(directory)).catch((error: unknown) => {
        // Another file of the same directory made it meanwhile. A symlink or a file is in the way for good.
        if (stats !== undefined || !hasCode(error, 'EEXIST')) throw error;
      });
    }
  }

  async #statsAt(path: string): Promise<BigIntStats | undefined> {
    try {
      return await lstat(this.#at(path), { bigint: true });
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async #version(path: string, stats: BigIntStats): Promise<Version> {
    const mode = Number(stats.mode) & PERMISSIONS;
    if (stats.isFile()) return { kind: 'file', sha256: await this.#sha256(path), mode };
    if (stats.isDirectory()) return { kind: 'directory', mode };
    if (stats.isSymbolicLink()) return { kind: 'symlink', target: await readlink(this.#at(path)) };
    return { kind: 'other' };
  }

  async #sha256(path: string): Promise<string> {
    const hash = createHash('sha256');
    const file = await open(this.#at(path), constants.O_RDONLY | constants.O_NOFOLLOW);
    for await (const chunk of file.createReadStream()) hash.update(chunk as Buffer);
    return hash.digest('hex');
  }

  #at(path: string): string {
    return join(this.#root, path);
  }
}

function stampOf(stats: BigIntStats | undefined): string {
  return stats === undefined ? 'absent' : [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(' ');
}
