import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { reasonOf } from '../workspace/local-tree.ts';
import type { Manifest } from '../workspace/manifest.ts';
import { PERMISSIONS } from '../workspace/walk-workspace.ts';
import type { FileEntry } from '../workspace/walk-workspace.ts';
import { sendContent } from './file-transfer.ts';
import type { TransferOptions } from './file-transfer.ts';
import { SftpStatusError } from './sftp-session.ts';
import type { SftpSession } from './sftp-session.ts';

/** A local file, and what the host has at its path. */
export interface FileToUpload {
  /** Absolute paths. */
  localPath: string;
  remotePath: string;
  /** The file that an earlier upload left at the remote path. */
  existing: FileEntry | undefined;
  record: UploadRecord;
}

/** The file on the host after an upload. */
export interface UploadedFile {
  size: number;
  sha256: string;
  mode: number;
}

/** A single local file that cannot be read any more, while others can. The message says why. */
export class LocalFileSkippedError extends Error {
  override readonly name = 'LocalFileSkippedError';
}

/**
 * Uploads a file, unless the host has the same content already. When the file changes meanwhile, what was sent counts.
 * @throws {LocalFileSkippedError} after which the host has nothing at the path
 */
export async function uploadFile(
  sftp: SftpSession,
  file: FileToUpload,
  options: TransferOptions,
): Promise<UploadedFile> {
  try {
    const source = await openFile(file.localPath);
    try {
      return await upload(sftp, file, source, options);
    } finally {
      await source.close();
    }
  } catch (error) {
    if (error instanceof LocalFileSkippedError && file.existing !== undefined) await sftp.unlink(file.remotePath);
    throw error;
  }
}

async function upload(
  sftp: SftpSession,
  { remotePath, existing, record }: FileToUpload,
  source: FileHandle,
  options: TransferOptions,
): Promise<UploadedFile> {
  const stats = await source.stat();
  if (!stats.isFile()) throw new LocalFileSkippedError('it is no file any more');
  const mode = stats.mode & PERMISSIONS;
  const attributes = { mode, ...timesOf(stats.mtimeMs) };
  if (existing !== undefined) {
    const known = existing.size === stats.size ? record.sha256Of(existing) : undefined;
    if (known !== undefined && known === (await sha256Of(source))) {
      await sftp.setstat(remotePath, attributes);
      options.onBytes(stats.size);
      return { size: stats.size, sha256: known, mode };
    }
    await sftp.unlink(remotePath);
  }
  const handle = await sftp.open(remotePath, 'wx');
  try {
    const sent = await sendContent(source, stats.size, { sftp, path: remotePath, handle }, options);
    await sftp.fsetstat(remotePath, handle, attributes);
    return { ...sent, mode };
  } finally {
    await sftp.close(remotePath, handle);
  }
}

/** Neither follows a symlink nor blocks on a pipe that replaced the file since the scan. */
async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw new LocalFileSkippedError(reasonOf(error), { cause: error });
  }
}

async function sha256Of(source: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of source.createReadStream({ start: 0, autoClose: false })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Times of SFTP: whole seconds in an unsigned number of 32 bits. */
function timesOf(mtimeMs: number): { atime: number; mtime: number } {
  const mtime = Math.min(Math.max(Math.floor(mtimeMs / 1_000), 0), 0xffff_ffff);
  return { atime: mtime, mtime };
}

const recordSchema = z.strictObject({
  version: z.literal(1),
  uploadedAt: z.int(),
  /** Path, size, mtime and SHA-256. */
  files: z.array(z.tuple([z.string(), z.int(), z.int(), z.string()])),
});

/** Limit of a record that is read: half a million files. */
const MAXIMUM_RECORD_BYTES = 128 * 1024 * 1024;

/**
 * The files that the last upload left in a lease directory, so that the next run that reuses the directory need not upload
 * all of them again. The host stores it as `uploaded.json`.
 */
export class UploadRecord {
  readonly #files: ReadonlyMap<string, Pick<FileEntry, 'size' | 'mtime'> & { sha256: string }>;
  readonly #uploadedAt: number;

  private constructor(uploadedAt: number, files: z.infer<typeof recordSchema>['files']) {
    this.#uploadedAt = uploadedAt;
    this.#files = new Map(files.map(([path, size, mtime, sha256]) => [path, { size, mtime, sha256 }]));
  }

  /** Empty after an upload that was interrupted, and when the record is damaged. */
  static async read(sftp: SftpSession, path: string): Promise<UploadRecord> {
    const record = recordSchema.safeParse(parseJson(await readIfExists(sftp, path)));
    return record.success ? new UploadRecord(record.data.uploadedAt, record.data.files) : new UploadRecord(0, []);
  }

  /** Stores the record of a completed upload. */
  static async write(sftp: SftpSession, path: string, { entries, uploadedAt }: Manifest): Promise<void> {
    const record: z.infer<typeof recordSchema> = { version: 1, uploadedAt, files: [] };
    for (const [file, entry] of entries) {
      if (entry.kind === 'file') record.files.push([file, entry.size, entry.remoteMtime, entry.sha256]);
    }
    await sftp.writeNew(path, Buffer.from(JSON.stringify(record)));
  }

  /** The SHA-256 of a file on the host, if it is certainly unchanged since its upload. */
  sha256Of({ path, size, mtime }: FileEntry): string | undefined {
    const known = this.#files.get(path);
    const isUnchanged = known?.size === size && known.mtime === mtime && mtime < this.#uploadedAt;
    return isUnchanged ? known.sha256 : undefined;
  }
}

async function readIfExists(sftp: SftpSession, path: string): Promise<Buffer> {
  try {
    return await sftp.readBeginning(path, MAXIMUM_RECORD_BYTES);
  } catch (error) {
    if (error instanceof SftpStatusError) return Buffer.alloc(0);
    throw error;
  }
}

function parseJson(text: Buffer): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return undefined;
  }
}
