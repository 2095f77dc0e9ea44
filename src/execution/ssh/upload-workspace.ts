import { EnvironmentFailedError } from '../../contracts/index.ts';
import { forEachConcurrently } from '../../lib/concurrency.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import type { PrepareReport, SkippedPath, TransferProgress } from '../driver.ts';
import { TransferMeter } from '../transfer-meter.ts';
import { LocalTree } from '../workspace/local-tree.ts';
import { rulesOfScan, scanWorkspace } from '../workspace/manifest.ts';
import type { Manifest, ManifestEntry, WorkspaceScan } from '../workspace/manifest.ts';
import { depthOf, directoriesAbove, walkWorkspace } from '../workspace/walk-workspace.ts';
import type {
  DirectoryEntry,
  FileEntry,
  SymlinkEntry,
  WorkspaceEntry,
  WorkspaceTree,
} from '../workspace/walk-workspace.ts';
import { RemoteTree, removeTree } from './remote-tree.ts';
import { SftpStatusError } from './sftp-session.ts';
import type { SftpSession } from './sftp-session.ts';
import { LocalFileSkippedError, UploadRecord, uploadFile } from './upload-file.ts';

/** The source and the target of an upload. */
export interface UploadOptions {
  sftp: SftpSession;
  /** The local workspace. */
  localDirectory: string;
  leaseDirectory: LeaseDirectory;
  /** The workspace on the host. */
  workspacePath: string;
  signal: AbortSignal;
  onProgress?: ((progress: TransferProgress) => void) | undefined;
}

const CONCURRENT_FILES = 16;

/** The access that the owner of a directory needs to change its entries. */
const OWNER_ACCESS = 0o700;

/** Makes the workspace on the host equal to the local one. Repeating it after a crash is harmless. */
export async function uploadWorkspace(options: UploadOptions): Promise<{ manifest: Manifest; report: PrepareReport }> {
  const { sftp, leaseDirectory, workspacePath, signal } = options;
  const recordPath = `${leaseDirectory}/uploaded.json`;
  const record = await UploadRecord.read(sftp, recordPath);
  // Until this upload is complete, no record describes the files on the host.
  await removeIfExists(sftp, recordPath);
  const uploadedAt = await readClock(sftp, `${leaseDirectory}/clock`);
  const scan = await scanWorkspace(new LocalTree(options.localDirectory), signal);
  const existing = await removeStaleRemoteFiles(sftp, workspacePath, scan, signal);

  const upload = new Upload(options, record, existing);
  const { directories, files, symlinks } = groupByKind(scan.entries.values());
  await upload.createDirectories(directories);
  await upload.uploadFiles(files);
  await upload.createSymlinks(symlinks);
  await upload.setModes(directories);

  const tree = new RemoteTree(sftp, workspacePath);
  const verified = await verifyUpload(tree, scan, upload.uploaded, { location: workspacePath, signal });
  const manifest = { ...verified, uploadedAt };
  await UploadRecord.write(sftp, recordPath, manifest);
  return { manifest, report: reportOf(manifest, [...scan.skipped, ...upload.skipped]) };
}

/** One upload in progress. */
class Upload {
  readonly uploaded = new Map<string, ManifestEntry>();
  readonly skipped: SkippedPath[] = [];
  readonly #options: UploadOptions;
  readonly #record: UploadRecord;
  /** What the host has at paths of the same kind. */
  readonly #existing: ReadonlyMap<string, WorkspaceEntry>;

  constructor(options: UploadOptions, record: UploadRecord, existing: ReadonlyMap<string, WorkspaceEntry>) {
    this.#options = options;
    this.#record = record;
    this.#existing = existing;
  }

  async createDirectories(directories: readonly DirectoryEntry[]): Promise<void> {
    for (const sameDepth of groupByDepth(directories)) {
      await this.#each(sameDepth, async ({ kind, path, mode }) => {
        if (!this.#existing.has(path)) await this.#options.sftp.mkdir(this.#remotePath(path), mode | OWNER_ACCESS);
        this.uploaded.set(path, { kind, mode, remoteMode: mode });
      });
    }
  }

  async uploadFiles(entries: readonly FileEntry[]): Promise<void> {
    const { sftp, localDirectory, signal, onProgress } = this.#options;
    const totalBytes = entries.reduce((total, { size }) => total + size, 0);
    const meter = new TransferMeter({ direction: 'upload', totalFiles: entries.length, totalBytes }, onProgress);
    const onBytes = (count: number) => meter.addBytes(count);
    await this.#each(entries, async ({ kind, path }) => {
      const existing = this.#existing.get(path);
      const file = {
        localPath: `${localDirectory}/${path}`,
        remotePath: this.#remotePath(path),
        existing: existing?.kind === 'file' ? existing : undefined,
        record: this.#record,
      };
      try {
        const { mode, ...content } = await uploadFile(sftp, file, { signal, onBytes });
        this.uploaded.set(path, { kind, ...content, mode, remoteMode: mode, remoteMtime: 0 });
      } catch (error) {
        if (!(error instanceof LocalFileSkippedError)) throw error;
        this.skipped.push({ path, reason: error.message });
      }
      meter.addFile();
    });
    meter.finish();
  }

  async createSymlinks(symlinks: readonly SymlinkEntry[]): Promise<void> {
    await this.#each(symlinks, async ({ kind, path, target }) => {
      if (!this.#existing.has(path)) await this.#options.sftp.symlink(target, this.#remotePath(path));
      this.uploaded.set(path, { kind, target });
    });
  }

  /** Comes last, since a mode can forbid changes in the directory. mkdir's mode is subject to the host's umask. */
  async setModes(directories: readonly DirectoryEntry[]): Promise<void> {
    for (const sameDepth of groupByDepth(directories).toReversed()) {
      await this.#each(sameDepth, ({ path, mode }) => this.#options.sftp.setstat(this.#remotePath(path), { mode }));
    }
  }

  #each<Entry>(entries: readonly Entry[], work: (entry: Entry) => Promise<void>): Promise<void> {
    return forEachConcurrently(entries, { concurrency: CONCURRENT_FILES, signal: this.#options.signal }, work);
  }

  #remotePath(path: string): string {
    return `${this.#options.workspacePath}/${path}`;
  }
}

/**
 * Removes what an earlier run left in a workspace on a host and the local workspace does not have. Paths that its
 * .gitignore files exclude stay: build caches are the reason to reuse a lease directory.
 * @returns the remaining entries that are of the same kind as the local ones
 */
async function removeStaleRemoteFiles(
  sftp: SftpSession,
  root: string,
  scan: WorkspaceScan,
  signal: AbortSignal,
): Promise<Map<string, WorkspaceEntry>> {
  const existing = new Map<string, WorkspaceEntry>();
  const ofOtherKind: string[] = [];
  const staleFiles: string[] = [];
  const staleDirectories: string[] = [];
  const occupied = new Set<string>();
  for await (const entry of walkWorkspace(new RemoteTree(sftp, root), rulesOfScan(scan), signal)) {
    const { kind, path } = entry;
    const wanted = scan.entries.get(path);
    // The walk lists the directory only after this.
    if (kind === 'directory' && (entry.mode & OWNER_ACCESS) !== OWNER_ACCESS)
      await sftp.setstat(`${root}/${path}`, { mode: entry.mode | OWNER_ACCESS });
    if (wanted !== undefined && isOfSameKind(wanted, entry)) existing.set(path, entry as WorkspaceEntry);
    else if (wanted !== undefined) ofOtherKind.push(path);
    else if (kind === 'ignored' || kind === 'skipped') for (const above of directoriesAbove(path)) occupied.add(above);
    else (kind === 'directory' ? staleDirectories : staleFiles).push(path);
  }
  for (const path of staleFiles) await sftp.unlink(`${root}/${path}`);
  for (const path of staleDirectories.toReversed()) {
    if (!occupied.has(path)) await removeIfEmpty(sftp, `${root}/${path}`);
  }
  for (const path of ofOtherKind) await removeTree(sftp, `${root}/${path}`);
  return existing;
}

function isOfSameKind(wanted: WorkspaceEntry, found: { kind: string; target?: string }): boolean {
  return wanted.kind === found.kind && (wanted.kind !== 'symlink' || wanted.target === found.target);
}

/** A directory with entries that a walk does not report, such as temporary files, stays and is harmless. */
async function removeIfEmpty(sftp: SftpSession, path: string): Promise<void> {
  try {
    await sftp.rmdir(path);
  } catch (error) {
    if (!(error instanceof SftpStatusError)) throw error;
  }
}

/**
 * Compares the host's files with what was uploaded, and adopts the modes and times that its file system gave them.
 * @throws {EnvironmentFailedError} workspace_unusable when something is missing
 */
async function verifyUpload(
  tree: WorkspaceTree,
  scan: Pick<WorkspaceScan, 'rules'>,
  uploaded: ReadonlyMap<string, ManifestEntry>,
  { location, signal }: { location: string; signal: AbortSignal },
): Promise<Pick<Manifest, 'entries' | 'staleDirectories'>> {
  const verified = new Map<string, ManifestEntry>();
  const staleDirectories = new Set<string>();
  for await (const found of walkWorkspace(tree, rulesOfScan(scan), signal)) {
    if (found.kind === 'ignored' || found.kind === 'skipped') continue;
    const sent = uploaded.get(found.path);
    const entry = sent && asFound(sent, found);
    if (entry !== undefined) verified.set(found.path, entry);
    else if (found.kind === 'directory') staleDirectories.add(found.path);
  }
  const missing = [...uploaded.keys()].find((path) => !verified.has(path));
  if (missing === undefined) return { entries: verified, staleDirectories };
  throw new EnvironmentFailedError(
    'workspace_unusable',
    `${location}/${missing} is not what was uploaded; does something else change it, or does the file system of the ` +
      'host take two names for one, as those do that ignore case or Unicode normalization?',
  );
}

/** Undefined when it is not what was uploaded. */
function asFound(sent: ManifestEntry, found: WorkspaceEntry): ManifestEntry | undefined {
  if (sent.kind === 'file' && found.kind === 'file' && sent.size === found.size)
    return { ...sent, remoteMode: found.mode, remoteMtime: found.mtime };
  if (sent.kind === 'directory' && found.kind === 'directory') return { ...sent, remoteMode: found.mode };
  if (sent.kind === 'symlink' && found.kind === 'symlink' && sent.target === found.target) return sent;
  return undefined;
}

function groupByKind(entries: Iterable<WorkspaceEntry>) {
  const byKind = { directories: [] as DirectoryEntry[], files: [] as FileEntry[], symlinks: [] as SymlinkEntry[] };
  for (const entry of entries) {
    if (entry.kind === 'directory') byKind.directories.push(entry);
    else if (entry.kind === 'file') byKind.files.push(entry);
    else byKind.symlinks.push(entry);
  }
  return byKind;
}

/** Outermost first. */
function groupByDepth(directories: readonly DirectoryEntry[]): DirectoryEntry[][] {
  const depths: DirectoryEntry[][] = [];
  for (const directory of directories) (depths[depthOf(directory.path) - 1] ??= []).push(directory);
  return depths;
}

function reportOf({ entries }: Manifest, skipped: SkippedPath[]): PrepareReport {
  const sizes = [...entries.values()].flatMap((entry) => (entry.kind === 'file' ? [entry.size] : []));
  return { files: sizes.length, bytes: sizes.reduce((total, size) => total + size, 0), skipped };
}

async function removeIfExists(sftp: SftpSession, path: string): Promise<void> {
  if ((await sftp.lstat(path)) !== undefined) await sftp.unlink(path);
}

/** The host's clock as it stamps files, in whole seconds since 1970. */
async function readClock(sftp: SftpSession, path: string): Promise<number> {
  await removeIfExists(sftp, path);
  await sftp.writeNew(path, Buffer.alloc(0));
  const stats = await sftp.lstat(path);
  await sftp.unlink(path);
  if (stats !== undefined) return stats.mtime;
  throw new EnvironmentFailedError('workspace_unusable', `${path} was written and is gone again; is its lease over?`);
}
