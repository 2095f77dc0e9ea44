import { createHash, randomUUID } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { constants } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, open, readlink, rename, rm, rmdir, symlink, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode } from '../../lib/errors.ts';
import { isMissing } from './local-tree.ts';
import type { Version } from './three-way-merge.ts';
import {
  OWN_DIRECTORY,
  PERMISSIONS,
  TEMPORARY_PREFIX,
  directoriesAbove,
  directoryOf,
  pathIn,
} from './walk-workspace.ts';

/** The local version of a path, with a stamp that changes when the version does. */
export interface LocalVersion {
  version: Version;
  stamp: string;
  /** Whether every parent is a directory or can be created as one. */
  isReachable: boolean;
}

/** A file that is written under a temporary name until it replaces its target. */
export interface TemporaryFile {
  path: string;
  handle: FileHandle;
}

/**
 * Changes a local workspace. Whatever paths it is given, it writes within the workspace only: no parent may be a symlink.
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
      // Something can exist behind a symlink, but nothing below a file.
      const version: Version = { kind: obstacle.isSymbolicLink() ? 'other' : 'absent' };
      return { version, stamp: 'unreachable', isReachable: false };
    }
    const stats = await this.#statsAt(path);
    const stamp = stampOf(stats);
    if (stats === undefined) return { version: { kind: 'absent' }, stamp, isReachable: true };
    try {
      return { version: await this.#version(path, stats), stamp, isReachable: true };
    } catch (error) {
      // It was replaced meanwhile.
      if (isMissing(error) || hasCode(error, 'ELOOP', 'EINVAL')) return this.versionAt(path);
      throw error;
    }
  }

  /** Whether nothing has changed at a path since its version was read. */
  async isUnchanged(path: string, { stamp }: LocalVersion): Promise<boolean> {
    return stampOf(await this.#statsAt(path)) === stamp;
  }

  /** Creates a temporary file beside a path, and the missing parents. */
  async createTemporaryFile(path: string): Promise<TemporaryFile> {
    await this.#createParents(path);
    const temporary = temporaryPathFor(path);
    const handle = await open(
      this.#at(temporary),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    return { path: temporary, handle };
  }

  async discard({ path, handle }: TemporaryFile): Promise<void> {
    await handle.close();
    await unlink(this.#at(path));
  }

  /** Replaces what is at a path by a temporary file. A directory there is replaced if it is empty. */
  async commit(
    temporary: TemporaryFile,
    path: string,
    { mode, mtime }: { mode: number; mtime: number },
  ): Promise<void> {
    const { handle } = temporary;
    try {
      await handle.chmod(mode);
      await handle.utimes(mtime, mtime);
    } finally {
      await handle.close();
    }
    await this.#replace(path, temporary.path);
  }

  async createSymlink(path: string, target: string): Promise<void> {
    await this.#createParents(path);
    const temporary = temporaryPathFor(path);
    await symlink(target, this.#at(temporary));
    await this.#replace(path, temporary);
  }

  /** Creates a directory that is writable for now. An existing one stays as it is. */
  async createDirectory(path: string): Promise<void> {
    await this.#createParents(pathIn(path, ''));
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

  /** Empties a directory of Lessor's own, and has git ignore everything of Lessor. */
  async clearOwnDirectory(path: string): Promise<void> {
    await this.#createParents(pathIn(path, ''));
    await rm(this.#at(path), { recursive: true });
    const gitignore = this.#at(pathIn(OWN_DIRECTORY, '.gitignore'));
    const file = await open(
      gitignore,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
    );
    await file.writeFile('*\n');
    await file.close();
  }

  async #replace(path: string, temporary: string): Promise<void> {
    await this.#createParents(path);
    const stats = await this.#statsAt(path);
    if (stats?.isDirectory()) await rmdir(this.#at(path));
    try {
      await rename(this.#at(temporary), this.#at(path));
    } catch (error) {
      // A conflict copy can come from another file system that is mounted in the workspace.
      if (!hasCode(error, 'EXDEV')) throw error;
      await copyFile(this.#at(temporary), this.#at(path), constants.COPYFILE_EXCL);
      await unlink(this.#at(temporary));
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

  /** The first parent of a path that exists and is no directory. */
  async #obstacleTo(path: string): Promise<BigIntStats | undefined> {
    for (const directory of directoriesAbove(path)) {
      const stats = await this.#statsAt(directory);
      if (stats === undefined) return undefined;
      if (!stats.isDirectory()) return stats;
    }
    return undefined;
  }

  async #createParents(path: string): Promise<void> {
    for (const directory of directoriesAbove(path)) {
      const stats = await this.#statsAt(directory);
      if (stats?.isDirectory()) continue;
      await mkdir(this.#at(directory)).catch((error: unknown) => {
        // Another file of the same directory created it meanwhile. A symlink or a file in its place is an error.
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

function temporaryPathFor(path: string): string {
  return pathIn(directoryOf(path), `${TEMPORARY_PREFIX}${randomUUID()}`);
}

function stampOf(stats: BigIntStats | undefined): string {
  return stats === undefined ? 'absent' : [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(' ');
}
