import type { FileHandle } from 'node:fs/promises';
import { sep } from 'node:path';
import type { FileEntryWithStats, Stats } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { RemoteFileSkippedError } from '../workspace/restore-workspace.ts';
import type { RestoreSource } from '../workspace/restore-workspace.ts';
import { PERMISSIONS, pathIn } from '../workspace/walk-workspace.ts';
import type { SkippedEntry, WorkspaceEntry, WorkspaceTree } from '../workspace/walk-workspace.ts';
import { receiveContent } from './file-transfer.ts';
import { SftpStatusError } from './sftp-session.ts';
import type { SftpSession } from './sftp-session.ts';

/** More than any workspace has. A host that lists files without end must not fill this machine's memory. */
const MAXIMUM_ENTRIES = 2_000_000;

/** The replacement character of bytes that are not UTF-8. */
const REPLACEMENT = '\uFFFD';

/** The files of a workspace on a host. The host is not trusted: all its answers are validated. */
export class RemoteTree implements WorkspaceTree {
  readonly #sftp: SftpSession;
  readonly #root: string;
  readonly #maximumEntries: number;
  #entries = 0;

  /** @param root absolute path of the workspace on the host */
  constructor(sftp: SftpSession, root: string, maximumEntries = MAXIMUM_ENTRIES) {
    this.#sftp = sftp;
    this.#root = root;
    this.#maximumEntries = maximumEntries;
  }

  async list(directory: string): Promise<(WorkspaceEntry | SkippedEntry)[]> {
    const entries: (WorkspaceEntry | SkippedEntry)[] = [];
    try {
      for await (const listed of this.#sftp.list(this.#at(directory))) {
        this.#count(listed.length);
        entries.push(...(await Promise.all(listed.map((entry) => this.#entry(directory, entry)))));
      }
    } catch (error) {
      if (directory === '' || !(error instanceof SftpStatusError)) throw error;
      return [{ kind: 'skipped', path: directory, reason: error.reason }];
    }
    return entries.toSorted((one, other) => (one.path < other.path ? -1 : 1));
  }

  async readBeginning(path: string, maximumBytes: number): Promise<Buffer> {
    try {
      return await this.#sftp.readBeginning(this.#at(path), maximumBytes);
    } catch (error) {
      // An unreadable .gitignore excludes nothing: more is downloaded then, which loses nothing.
      if (error instanceof SftpStatusError) return Buffer.alloc(0);
      throw error;
    }
  }

  async #entry(directory: string, { filename, attrs }: FileEntryWithStats): Promise<WorkspaceEntry | SkippedEntry> {
    const path = pathIn(directory, filename);
    const skipped = (reason: string): SkippedEntry => ({ kind: 'skipped', path, reason });
    if (!isName(filename)) return skipped('the host lists it under a name that no file can have');
    try {
      if (filename.includes(REPLACEMENT) && (await this.#sftp.lstat(this.#at(path))) === undefined)
        return skipped('its name is not UTF-8');
      if (!attrs.isSymbolicLink())
        return entryOf(path, attrs) ?? skipped('it is neither a file, a directory nor a symlink');
      const target = await this.#sftp.readlink(this.#at(path));
      return isTarget(target) ? { kind: 'symlink', path, target } : skipped('its target cannot be one here');
    } catch (error) {
      if (error instanceof SftpStatusError) return skipped(error.reason);
      throw error;
    }
  }

  #count(more: number): void {
    this.#entries += more;
    if (this.#entries <= this.#maximumEntries) return;
    throw new EnvironmentFailedError(
      'workspace_unusable',
      `there are more than ${this.#maximumEntries} files in ${this.#root}; have .gitignore exclude those that need no sync`,
    );
  }

  #at(path: string): string {
    return path === '' ? this.#root : `${this.#root}/${path}`;
  }
}

function entryOf(path: string, stats: Stats): WorkspaceEntry | undefined {
  const mode = stats.mode & PERMISSIONS;
  if (stats.isFile()) return { kind: 'file', path, size: stats.size, mode, mtime: stats.mtime };
  return stats.isDirectory() ? { kind: 'directory', path, mode } : undefined;
}

/** A hostile host would list names that lead out of their directory. */
function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && !name.includes(sep);
}

function isTarget(target: string): boolean {
  return target !== '' && !target.includes('\0') && !target.includes(REPLACEMENT);
}

/** Removes whatever is at a path of a host, recursively and without following symlinks. */
export async function removeTree(sftp: SftpSession, path: string): Promise<void> {
  const stats = await sftp.lstat(path);
  if (stats === undefined) return;
  if (!stats.isDirectory()) return sftp.unlink(path);

  const directories = [path];
  // The loop appends to the array it iterates over.
  for (const directory of directories) {
    await sftp.setstat(directory, { mode: 0o700 });
    const names: string[] = [];
    for await (const entries of sftp.list(directory)) {
      for (const { filename, attrs } of entries) {
        if (attrs.isDirectory()) directories.push(`${directory}/${filename}`);
        else names.push(filename);
      }
    }
    for (const name of names) await sftp.unlink(`${directory}/${name}`);
  }
  for (const directory of directories.toReversed()) await sftp.rmdir(directory);
}

/** Downloads the files of a workspace on a host. */
export class RemoteRestoreSource implements RestoreSource {
  readonly tree: RemoteTree;
  readonly #sftp: SftpSession;
  readonly #root: string;
  readonly #signal: AbortSignal;

  constructor(sftp: SftpSession, root: string, signal: AbortSignal) {
    this.tree = new RemoteTree(sftp, root);
    this.#sftp = sftp;
    this.#root = root;
    this.#signal = signal;
  }

  async download(path: string, target: FileHandle, onBytes: (count: number) => void): Promise<string> {
    const remotePath = `${this.#root}/${path}`;
    try {
      const handle = await this.#sftp.open(remotePath, 'r');
      try {
        const file = { sftp: this.#sftp, path: remotePath, handle };
        return await receiveContent(file, target, { signal: this.#signal, onBytes });
      } finally {
        await this.#sftp.close(remotePath, handle);
      }
    } catch (error) {
      if (error instanceof SftpStatusError) throw new RemoteFileSkippedError(error.reason, { cause: error });
      throw error;
    }
  }
}
