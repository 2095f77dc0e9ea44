import type { FileHandle } from 'node:fs/promises';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { forEachConcurrently } from '../../lib/concurrency.ts';
import type { RestoreReport, TransferProgress } from '../driver.ts';
import { TransferMeter } from '../transfer-meter.ts';
import { reasonOf } from './local-tree.ts';
import type { LocalVersion, LocalWorkspace } from './local-workspace.ts';
import { compareWithManifest, mayHaveChanged } from './manifest.ts';
import type { Manifest } from './manifest.ts';
import { baseVersionOf, isSameContent, mergeVersions } from './three-way-merge.ts';
import type { MergeDecision, Version } from './three-way-merge.ts';
import { OWN_DIRECTORY, depthOf, pathIn } from './walk-workspace.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry, WorkspaceTree } from './walk-workspace.ts';

/** The environment's workspace, from which changed files are downloaded. */
export interface RestoreSource {
  tree: WorkspaceTree;
  /**
   * Writes a file of the environment into a local one, and resolves to the SHA-256 of what was written.
   * @throws {RemoteFileSkippedError} when the environment does not provide this one
   */
  download(path: string, target: FileHandle, onBytes: (count: number) => void): Promise<string>;
}

/** A single file of the environment that cannot be read, while others can. The message says why. */
export class RemoteFileSkippedError extends Error {
  override readonly name = 'RemoteFileSkippedError';
}

/** Options of a restore. */
export interface RestoreOptions {
  manifest: Manifest;
  source: RestoreSource;
  workspace: LocalWorkspace;
  /** Names the directory of the conflict copies. */
  leaseId: string;
  signal: AbortSignal;
  onProgress?: ((progress: TransferProgress) => void) | undefined;
}

const CONCURRENT_FILES = 8;

/** Downloads what changed on the environment since the upload, and overwrites no local change. */
export async function restoreWorkspace(options: RestoreOptions): Promise<RestoreReport> {
  const { files, symlinks, directories, deleted, skipped } = await compareWithManifest(
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
  // Deletions come first, innermost first, and directories before their entries.
  for (const path of deleted.toSorted(innermostFirst)) await restore.attempt(path, () => restore.deletion(path));
  for (const entry of directories) await restore.attempt(entry.path, () => restore.directory(entry));
  await forEachConcurrently(files, { concurrency: CONCURRENT_FILES, signal: options.signal }, (entry) =>
    restore.attempt(entry.path, () => restore.file(entry)),
  );
  for (const entry of symlinks) await restore.attempt(entry.path, () => restore.symlink(entry));
  await restore.setModesOfDirectories();
  meter.finish();
  return restore.finishedReport();
}

/** One restore in progress. */
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

  /** Does the work of a path, and names the path when it fails. */
  async attempt(path: string, work: () => Promise<void>): Promise<void> {
    this.#options.signal.throwIfAborted();
    try {
      await work();
    } catch (error) {
      if (error instanceof EnvironmentFailedError || this.#options.signal.aborted) throw error;
      const message = `${path} cannot be changed locally: ${reasonOf(error)}`;
      throw new EnvironmentFailedError('workspace_unusable', message, { cause: error });
    }
  }

  async deletion(path: string): Promise<void> {
    const { workspace } = this.#options;
    const local = await workspace.versionAt(path);
    const { content } = this.#merge(path, local.version, { kind: 'absent' });
    if (content === 'keep') return;
    if (content === 'conflict') this.report.conflicts.push({ path, keptAs: null });
    else if (await workspace.remove(path)) this.report.deleted.push(path);
    else if (!this.report.conflicts.some((conflict) => conflict.path.startsWith(`${path}/`)))
      this.#skip(path, 'it was deleted on the environment, but is not empty locally');
  }

  async directory({ path, mode }: DirectoryEntry): Promise<void> {
    const { workspace } = this.#options;
    const local = await workspace.versionAt(path);
    const decision = this.#merge(path, local.version, { kind: 'directory', mode });
    if (decision.content === 'keep') {
      if (decision.mode !== undefined) this.report.changed.push(path);
    } else if (decision.content === 'take' && (await this.#canReplace(path, local))) {
      if (local.version.kind !== 'absent') await workspace.remove(path);
      await workspace.createDirectory(path);
      this.#reportTaken(path);
    } else return workspace.createDirectory(await this.#addConflict(path));
    if (decision.mode !== undefined) this.#directoryModes.set(path, decision.mode);
    this.#reportModeConflict(path, mode, decision);
  }

  async symlink({ path, target }: SymlinkEntry): Promise<void> {
    const { workspace } = this.#options;
    const local = await workspace.versionAt(path);
    const { content } = this.#merge(path, local.version, { kind: 'symlink', target });
    if (content === 'keep') return;
    if (content === 'take' && (await this.#canReplace(path, local))) {
      await workspace.createSymlink(path, target);
      this.#reportTaken(path);
    } else await workspace.createSymlink(await this.#addConflict(path), target);
  }

  async file(entry: FileEntry): Promise<void> {
    const known = this.#options.manifest.entries.get(entry.path);
    if (known?.kind === 'file' && !mayHaveChanged(known, entry, this.#options.manifest.uploadedAt)) {
      const local = await this.#options.workspace.versionAt(entry.path);
      await this.#restoreFileMode(entry, this.#merge(entry.path, local.version, { ...entry, sha256: known.sha256 }));
    } else await this.#restoreFileContent(entry);
    this.#meter.addFile();
  }

  /** Comes last, since a mode can forbid changes in the directory. */
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

  /** Only for a file whose local content stays. */
  async #restoreFileMode({ path, mode }: FileEntry, decision: MergeDecision): Promise<void> {
    if (decision.content === 'keep' && decision.mode !== undefined) {
      await this.#options.workspace.setMode(path, decision.mode);
      this.report.changed.push(path);
    }
    this.#reportModeConflict(path, mode, decision);
  }

  async #restoreFileContent(entry: FileEntry): Promise<void> {
    const { workspace, source, manifest } = this.#options;
    const { path, mtime } = entry;
    const local = await workspace.versionAt(path);
    const isUnchangedLocally = isSameContent(baseVersionOf(manifest.entries.get(path)).local, local.version);
    // The temporary file lies beside its target if that can be replaced, else in the conflicts directory.
    const isBesideTarget = local.isReachable && (isUnchangedLocally || local.version.kind !== 'absent');
    const temporary = await workspace.createTemporaryFile(isBesideTarget ? path : await this.#conflictPath(path));
    let decision: MergeDecision;
    try {
      const sha256 = await source.download(path, temporary.handle, (count) => this.#meter.addBytes(count));
      decision = this.#merge(path, local.version, { ...entry, sha256 });
    } catch (error) {
      await workspace.discard(temporary);
      if (!(error instanceof RemoteFileSkippedError)) throw error;
      return this.#skip(path, error.message);
    }
    if (decision.content === 'keep') {
      await workspace.discard(temporary);
      await this.#restoreFileMode(entry, decision);
    } else if (decision.content === 'take' && (await this.#canReplace(path, local))) {
      await workspace.commit(temporary, path, { mode: decision.mode ?? entry.mode, mtime });
      this.#reportTaken(path);
      this.#reportModeConflict(path, entry.mode, decision);
    } else await workspace.commit(temporary, await this.#addConflict(path), { mode: entry.mode, mtime });
  }

  #merge(path: string, local: Version, remote: Version): MergeDecision {
    return mergeVersions(baseVersionOf(this.#options.manifest.entries.get(path)), local, remote);
  }

  /** Whether the local version is still the one that was merged, as a transfer takes time; removes an empty directory. */
  async #canReplace(path: string, local: LocalVersion): Promise<boolean> {
    const { workspace } = this.#options;
    if (!local.isReachable || !(await workspace.isUnchanged(path, local))) return false;
    return local.version.kind !== 'directory' || workspace.remove(path);
  }

  /** Reports a conflict, and resolves to the path of the copy of the environment's version. */
  async #addConflict(path: string): Promise<string> {
    const keptAs = await this.#conflictPath(path);
    this.report.conflicts.push({ path, keptAs });
    return keptAs;
  }

  async #conflictPath(path: string): Promise<string> {
    this.#conflictsCleared ??= this.#options.workspace.clearOwnDirectory(this.#conflictsDirectory);
    await this.#conflictsCleared;
    return pathIn(this.#conflictsDirectory, path);
  }

  #reportTaken(path: string): void {
    (this.#options.manifest.entries.has(path) ? this.report.changed : this.report.created).push(path);
  }

  #reportModeConflict(path: string, mode: number, { modeConflict }: MergeDecision): void {
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
