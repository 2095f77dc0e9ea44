import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import type { PrepareReport, SkippedPath, TransferProgress } from '../driver.ts';
import { forEachConcurrently } from '../for-each-concurrently.ts';
import { TransferMeter } from '../transfer-meter.ts';
import { LocalTree } from '../workspace/local-tree.ts';
import type { Manifest, ManifestEntry } from '../workspace/manifest.ts';
import { surveyWorkspace } from '../workspace/survey-workspace.ts';
import { depthOf } from '../workspace/workspace-entry.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry, WorkspaceEntry } from '../workspace/workspace-entry.ts';
import { LastUpload } from './last-upload.ts';
import { makeWay } from './make-way.ts';
import { OWNER_ACCESS } from './remote-removal.ts';
import { RemoteTree } from './remote-tree.ts';
import type { SftpFiles } from './sftp-files.ts';
import { FileLeftOutError, uploadFile } from './upload-file.ts';
import { verifyUpload } from './verify-upload.ts';

/** What is brought, and where to. */
export interface UploadOptions {
  files: SftpFiles;
  /** The workspace on this machine. */
  directory: string;
  place: LeaseDirectory;
  /** The workspace on the host. */
  workspacePath: string;
  signal: AbortSignal;
  onProgress?: ((progress: TransferProgress) => void) | undefined;
}

const CONCURRENT_FILES = 16;

/** Makes the workspace on the host what it is on this machine. Repeating it after a crash is harmless. */
export async function uploadWorkspace(options: UploadOptions): Promise<{ manifest: Manifest; report: PrepareReport }> {
  const { files, place, workspacePath, signal } = options;
  const record = `${place}/uploaded.json`;
  const last = await LastUpload.read(files, record);
  // Until this upload has come to its end, nothing there is sure.
  await removeIfThere(files, record);
  const broughtAt = await readClock(files, `${place}/clock`);
  const survey = await surveyWorkspace(new LocalTree(options.directory), signal);
  const there = await makeWay(files, workspacePath, survey, signal);

  const upload = new Upload(options, last, there);
  const byKind = sorted(survey.entries.values());
  await upload.makeDirectories(byKind.directories);
  await upload.sendFiles(byKind.files);
  await upload.makeSymlinks(byKind.symlinks);
  await upload.setModes(byKind.directories);

  const tree = new RemoteTree(files, workspacePath);
  const verified = await verifyUpload(tree, survey, upload.brought, { location: workspacePath, signal });
  const manifest = { ...verified, broughtAt };
  await LastUpload.write(files, record, manifest);
  return { manifest, report: reportOf(manifest, [...survey.skipped, ...upload.skipped]) };
}

/** One upload under way. */
class Upload {
  readonly brought = new Map<string, ManifestEntry>();
  readonly skipped: SkippedPath[] = [];
  readonly #options: UploadOptions;
  readonly #last: LastUpload;
  readonly #there: ReadonlyMap<string, WorkspaceEntry>;

  constructor(options: UploadOptions, last: LastUpload, there: ReadonlyMap<string, WorkspaceEntry>) {
    this.#options = options;
    this.#last = last;
    this.#there = there;
  }

  async makeDirectories(directories: readonly DirectoryEntry[]): Promise<void> {
    for (const ofOneDepth of byDepth(directories)) {
      await this.#each(ofOneDepth, async ({ kind, path, mode }) => {
        if (!this.#there.has(path)) await this.#options.files.mkdir(this.#remote(path), mode | OWNER_ACCESS);
        this.brought.set(path, { kind, mode, remoteMode: mode });
      });
    }
  }

  async sendFiles(entries: readonly FileEntry[]): Promise<void> {
    const { files, directory, signal, onProgress } = this.#options;
    const totalBytes = entries.reduce((total, { size }) => total + size, 0);
    const meter = new TransferMeter({ direction: 'upload', totalFiles: entries.length, totalBytes }, onProgress);
    const onBytes = (count: number) => meter.addBytes(count);
    await this.#each(entries, async ({ kind, path }) => {
      const there = this.#there.get(path);
      const file = {
        local: `${directory}/${path}`,
        remote: this.#remote(path),
        there: there?.kind === 'file' ? there : undefined,
        last: this.#last,
      };
      try {
        const { mode, ...content } = await uploadFile(files, file, { signal, onBytes });
        this.brought.set(path, { kind, ...content, mode, remoteMode: mode, remoteMtime: 0 });
      } catch (error) {
        if (!(error instanceof FileLeftOutError)) throw error;
        this.skipped.push({ path, reason: error.message });
      }
      meter.addFile();
    });
    meter.finish();
  }

  async makeSymlinks(symlinks: readonly SymlinkEntry[]): Promise<void> {
    await this.#each(symlinks, async ({ kind, path, target }) => {
      if (!this.#there.has(path)) await this.#options.files.symlink(target, this.#remote(path));
      this.brought.set(path, { kind, target });
    });
  }

  /** They come last, since they can forbid to change what is in the directories; what mkdir makes of them is the host's. */
  async setModes(directories: readonly DirectoryEntry[]): Promise<void> {
    for (const ofOneDepth of byDepth(directories).toReversed()) {
      await this.#each(ofOneDepth, ({ path, mode }) => this.#options.files.setstat(this.#remote(path), { mode }));
    }
  }

  #each<Entry>(entries: readonly Entry[], work: (entry: Entry) => Promise<void>): Promise<void> {
    return forEachConcurrently(entries, { limit: CONCURRENT_FILES, signal: this.#options.signal }, work);
  }

  #remote(path: string): string {
    return `${this.#options.workspacePath}/${path}`;
  }
}

function sorted(entries: Iterable<WorkspaceEntry>) {
  const byKind = { directories: [] as DirectoryEntry[], files: [] as FileEntry[], symlinks: [] as SymlinkEntry[] };
  for (const entry of entries) {
    if (entry.kind === 'directory') byKind.directories.push(entry);
    else if (entry.kind === 'file') byKind.files.push(entry);
    else byKind.symlinks.push(entry);
  }
  return byKind;
}

/** Outermost first. */
function byDepth(directories: readonly DirectoryEntry[]): DirectoryEntry[][] {
  const depths: DirectoryEntry[][] = [];
  for (const directory of directories) (depths[depthOf(directory.path) - 1] ??= []).push(directory);
  return depths;
}

function reportOf({ entries }: Manifest, skipped: SkippedPath[]): PrepareReport {
  const sizes = [...entries.values()].flatMap((entry) => (entry.kind === 'file' ? [entry.size] : []));
  return { files: sizes.length, bytes: sizes.reduce((total, size) => total + size, 0), skipped };
}

async function removeIfThere(files: SftpFiles, path: string): Promise<void> {
  if ((await files.lstat(path)) !== undefined) await files.unlink(path);
}

/** The host's clock, as it stamps files: in whole seconds since 1970. */
async function readClock(files: SftpFiles, path: string): Promise<number> {
  await removeIfThere(files, path);
  await files.writeNew(path, Buffer.alloc(0));
  const stats = await files.lstat(path);
  await files.unlink(path);
  if (stats !== undefined) return stats.mtime;
  throw new EnvironmentFailedError('workspace_unusable', `${path} was written and is gone again; is its lease over?`);
}
