import { sep } from 'node:path';
import type { FileEntryWithStats, Stats } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { PERMISSIONS, pathIn } from '../workspace/workspace-entry.ts';
import type { SkippedEntry, WorkspaceEntry, WorkspaceTree } from '../workspace/workspace-entry.ts';
import { SftpRefusedError } from './sftp-files.ts';
import type { SftpFiles } from './sftp-files.ts';

/** More than any workspace has. A host that goes on telling of files must not fill this machine's memory. */
const MAXIMUM_ENTRIES = 2_000_000;

/** What stands for bytes that are not UTF-8. */
const REPLACEMENT = '\uFFFD';

/** The files of a workspace on a host, which is not trusted: whatever it tells is checked. */
export class RemoteTree implements WorkspaceTree {
  readonly #files: SftpFiles;
  readonly #root: string;
  readonly #maximumEntries: number;
  #entries = 0;

  /** @param root absolute path of the workspace on the host */
  constructor(files: SftpFiles, root: string, maximumEntries = MAXIMUM_ENTRIES) {
    this.#files = files;
    this.#root = root;
    this.#maximumEntries = maximumEntries;
  }

  async list(directory: string): Promise<(WorkspaceEntry | SkippedEntry)[]> {
    const entries: (WorkspaceEntry | SkippedEntry)[] = [];
    try {
      for await (const listed of this.#files.list(this.#at(directory))) {
        this.#count(listed.length);
        entries.push(...(await Promise.all(listed.map((entry) => this.#entry(directory, entry)))));
      }
    } catch (error) {
      if (directory === '' || !(error instanceof SftpRefusedError)) throw error;
      return [{ kind: 'skipped', path: directory, reason: error.reason }];
    }
    return entries.toSorted((one, other) => (one.path < other.path ? -1 : 1));
  }

  async readBeginning(path: string, maximumBytes: number): Promise<Buffer> {
    try {
      return await this.#files.readBeginning(this.#at(path), maximumBytes);
    } catch (error) {
      // Rules that cannot be read are none: more comes back then, which is not lost.
      if (error instanceof SftpRefusedError) return Buffer.alloc(0);
      throw error;
    }
  }

  async #entry(directory: string, { filename, attrs }: FileEntryWithStats): Promise<WorkspaceEntry | SkippedEntry> {
    const path = pathIn(directory, filename);
    const skipped = (reason: string): SkippedEntry => ({ kind: 'skipped', path, reason });
    if (!isName(filename)) return skipped('the host lists it under a name that no file can have');
    try {
      if (filename.includes(REPLACEMENT) && (await this.#files.lstat(this.#at(path))) === undefined)
        return skipped('its name is not UTF-8');
      if (!attrs.isSymbolicLink())
        return entryOf(path, attrs) ?? skipped('it is neither a file, a directory nor a symlink');
      const target = await this.#files.readlink(this.#at(path));
      return isTarget(target) ? { kind: 'symlink', path, target } : skipped('its target cannot be one here');
    } catch (error) {
      if (error instanceof SftpRefusedError) return skipped(error.reason);
      throw error;
    }
  }

  #count(more: number): void {
    this.#entries += more;
    if (this.#entries <= this.#maximumEntries) return;
    throw new EnvironmentFailedError(
      'workspace_unusable',
      `there are more than ${this.#maximumEntries} files in ${this.#root}; have those ignored that need not cross`,
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

/** Names that would lead out of their directory are the first thing that a hostile host tries. */
function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && !name.includes(sep);
}

function isTarget(target: string): boolean {
  return target !== '' && !target.includes('\0') && !target.includes(REPLACEMENT);
}
