import type { FileHandle } from 'node:fs/promises';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { RestoreReport, TransferProgress } from '../driver.ts';
import { forEachConcurrently } from '../for-each-concurrently.ts';
import { TransferMeter } from '../transfer-meter.ts';
import { compareWithManifest, mayHaveChanged } from './compare-with-manifest.ts';
import { reasonOf } from './file-errors.ts';
import type { LocalVersion, LocalWorkspace } from './local-workspace.ts';
import type { Manifest } from './manifest.ts';
import { commonVersion, decide, isSameContent } from './restore-decision.ts';
import type { Decision, Version } from './restore-decision.ts';
import { OWN_DIRECTORY } from './walk-workspace.ts';
import { depthOf, pathIn } from './workspace-entry.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry, WorkspaceTree } from './workspace-entry.ts';

/** Where changed files are brought back from. */
export interface RestoreSource {
  tree: WorkspaceTree;
  /**
   * Writes a file of the environment into one of this machine, and tells the SHA-256 of what was written.
   * @throws {FileNotReadError} when the environment does not give this one
   */
  download(path: string, into: FileHandle, onBytes: (count: number) => void): Promise<string>;
}

/** One file that cannot be had, while others can. The message says why. */
export class FileNotReadError extends Error {
  override readonly name = 'FileNotReadError';
}

/** What a restore is done with. */
export interface RestoreOptions {
  manifest: Manifest;
  source: RestoreSource;
  workspace: LocalWorkspace;
  /** Names the directory that conflicts are put in. */
  leaseId: string;
  signal: AbortSignal;
  onProgress?: ((progress: TransferProgress) => void) | undefined;
}

const CONCURRENT_FILES = 8;

/** Brings back what changed on the environment, and overwrites nothing that changed here. */
export async function restoreWorkspace(options: RestoreOptions): Promise<RestoreReport> {
  const { files, symlinks, directories, gone, skipped } = await compareWithManifest(
    options.source.tree,
    options.manifest,
    options.signal,
  );
  const meter = new TransferMeter(
    {
      direction: 'download',
      totalFiles: files.length,
      totalBytes: files.reduce((total, { size }) => total + size, 0),
    },
    options.onProgress,
  );
  const restore = new Restore(options, meter);
  restore.report.skipped.push(...skipped);
  // What is gone makes room first, innermost first, and directories are there before what lies in them.
  for (const path of gone.toSorted(innermostFirst)) await restore.path(path, () => restore.gone(path));
  for (const entry of directories) await restore.path(entry.path, () => restore.directory(entry));
  await forEachConcurrently(files, { limit: CONCURRENT_FILES, signal: options.signal }, (entry) =>
    restore.path(entry.path, () => restore.file(entry)),
  );
  for (const entry of symlinks) await restore.path(entry.path, () => restore.symlink(entry));
  await restore.setModesOfDirectories();
  meter.finish();
  return restore.finishedReport();
}

/** One restore under way. */
class Restore {
  readonly report: RestoreReport = { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };
  readonly #options: RestoreOptions;
  readonly #meter: TransferMeter;
  readonly #conflictsDirectory: string;
  #conflictsCleared: Promise<void> | undefined;
  readonly #directoryModes = new Map<string, number>();

  constructor(options: RestoreOptions, meter: TransferMeter) {
    this.#options = options;
    this.#meter = meter;
    this.#conflictsDirectory = pathIn(OWN_DIRECTORY, `conflicts/${options.leaseId}`);
  }

  /** Does what is to be done for a path, and names it when that fails. */
  async path(path: string, work: () => Promise<void>): Promise<void> {
    this.#options.signal.throwIfAborted();
    try {
      await work();
    } catch (error) {
      if (error instanceof EnvironmentFailedError || this.#options.signal.aborted) throw error;
      const message = `${path} cannot be changed on this machine: ${reasonOf(error)}`;
      throw new EnvironmentFailedError('workspace_unusable', message, { cause: error });
    }
  }

  async gone(path: string): Promise<void> {
    const { workspace } = this.#options;
    const local = await workspace.versionAt(path);
    const { content } = this.#decide(path, local.version, { kind: 'absent' });
    if (content === 'keep') return;
    if (content === 'conflict') this.report.conflicts.push({ path, keptAs: null });
    else if (await workspace.remove(path)) this.report.deleted.push(path);
    else if (!this.report.conflicts.some((conflict) => conflict.path.startsWith(`${path}/`)))
      this.#skip(path, 'it is gone on the environment, but not empty here');
  }

  async directory({ path, mode }: DirectoryEntry): Promise<void> {
    const { workspace } = this.#options;
    const local = await workspace.versionAt(path);
    const decision = this.#decide(path, local.version, { kind: 'directory', mode });
    if (decision.content === 'keep') {
      if (decision.mode !== undefined) this.report.changed.push(path);
    } else if (decision.content === 'take' && (await this.#makesRoom(path, local))) {
      if (local.version.kind !== 'absent') await workspace.remove(path);
      await workspace.putDirectory(path);
      this.#tellTaken(path);
    } else return workspace.putDirectory(await this.#aside(path));
    if (decision.mode !== undefined) this.#directoryModes.set(path, decision.mode);
    this.#tellModeConflict(path, mode, decision);
  }

  async symlink({ path, target }: SymlinkEntry): Promise<void> {
    const { workspace } = this.#options;
    const local = await workspace.versionAt(path);
    const { content } = this.#decide(path, local.version, { kind: 'symlink', target });
    if (content === 'keep') return;
    if (content === 'take' && (await this.#makesRoom(path, local))) {
      await workspace.putSymlink(path, target);
      this.#tellTaken(path);
    } else await workspace.putSymlink(await this.#aside(path), target);
  }

  async file(entry: FileEntry): Promise<void> {
    const known = this.#options.manifest.entries.get(entry.path);
    if (known?.kind === 'file' && !mayHaveChanged(known, entry, this.#options.manifest.broughtAt)) {
      const local = await this.#options.workspace.versionAt(entry.path);
      await this.#fileMode(entry, this.#decide(entry.path, local.version, { ...entry, sha256: known.sha256 }));
    } else await this.#fileContent(entry);
    this.#meter.addFile();
  }

  /** The modes of directories come last, since they can forbid to change what is in them. */
  async setModesOfDirectories(): Promise<void> {
    const innermost = [...this.#directoryModes].toSorted(([one], [other]) => innermostFirst(one, other));
    for (const [path, mode] of innermost) await this.#options.workspace.setMode(path, mode);
  }

  finishedReport(): RestoreReport {
    const { changed, created, deleted, conflicts, skipped } = this.report;
    return {
      changed: changed.toSorted(),
      created: created.toSorted(),
      deleted: deleted.toSorted(),
      conflicts: conflicts.toSorted(byPath),
      skipped: skipped.toSorted(byPath),
    };
  }

  /** Only for one whose content is known to be what was brought. */
  async #fileMode({ path, mode }: FileEntry, decision: Decision): Promise<void> {
    if (decision.content === 'keep' && decision.mode !== undefined) {
      await this.#options.workspace.setMode(path, decision.mode);
      this.report.changed.push(path);
    }
    this.#tellModeConflict(path, mode, decision);
  }

  async #fileContent(entry: FileEntry): Promise<void> {
    const { workspace, source, manifest } = this.#options;
    const { path, mtime } = entry;
    const local = await workspace.versionAt(path);
    const isUnchangedHere = isSameContent(commonVersion(manifest.entries.get(path)).local, local.version);
    // Only where it can end up, or something is already, are directories there for it.
    const isBeside = local.isReachable && (isUnchangedHere || local.version.kind !== 'absent');
    const unfinished = await workspace.begin(isBeside ? path : await this.#asidePath(path));
    let decision: Decision;
    try {
      const sha256 = await source.download(path, unfinished.handle, (count) => this.#meter.addBytes(count));
      decision = this.#decide(path, local.version, { ...entry, sha256 });
    } catch (error) {
      await workspace.discard(unfinished);
      if (!(error instanceof FileNotReadError)) throw error;
      return this.#skip(path, error.message);
    }
    if (decision.content === 'keep') {
      await workspace.discard(unfinished);
      await this.#fileMode(entry, decision);
    } else if (decision.content === 'take' && (await this.#makesRoom(path, local))) {
      await workspace.finish(unfinished, path, { mode: decision.mode ?? entry.mode, mtime });
      this.#tellTaken(path);
      this.#tellModeConflict(path, entry.mode, decision);
    } else await workspace.finish(unfinished, await this.#aside(path), { mode: entry.mode, mtime });
  }

  #decide(path: string, local: Version, remote: Version): Decision {
    return decide(commonVersion(this.#options.manifest.entries.get(path)), local, remote);
  }

  /** Whether what was decided still holds, since a transfer takes its time, and nothing is lost by it. */
  async #makesRoom(path: string, local: LocalVersion): Promise<boolean> {
    const { workspace } = this.#options;
    if (!local.isReachable || !(await workspace.isStill(path, local))) return false;
    return local.version.kind !== 'directory' || workspace.remove(path);
  }

  /** Tells of a conflict and where the environment's version goes. */
  async #aside(path: string): Promise<string> {
    const keptAs = await this.#asidePath(path);
    this.report.conflicts.push({ path, keptAs });
    return keptAs;
  }

  async #asidePath(path: string): Promise<string> {
    this.#conflictsCleared ??= this.#options.workspace.clearOwnDirectory(this.#conflictsDirectory);
    await this.#conflictsCleared;
    return pathIn(this.#conflictsDirectory, path);
  }

  #tellTaken(path: string): void {
    (this.#options.manifest.entries.has(path) ? this.report.changed : this.report.created).push(path);
  }

  #tellModeConflict(path: string, mode: number, { modeConflict }: Decision): void {
    if (modeConflict) this.#skip(path, `its mode changed on both sides: it is ${mode.toString(8)} on the environment`);
  }

  #skip(path: string, reason: string): void {
    this.report.skipped.push({ path, reason });
  }
}

function innermostFirst(one: string, other: string): number {
  return depthOf(other) - depthOf(one);
}

function byPath(one: { path: string }, other: { path: string }): number {
  return one.path < other.path ? -1 : 1;
}
