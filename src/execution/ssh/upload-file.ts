import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { reasonOf } from '../workspace/file-errors.ts';
import { PERMISSIONS } from '../workspace/workspace-entry.ts';
import type { FileEntry } from '../workspace/workspace-entry.ts';
import { sendContent } from './file-transfer.ts';
import type { TransferOptions } from './file-transfer.ts';
import type { LastUpload } from './last-upload.ts';
import type { SftpFiles } from './sftp-files.ts';

/** A file of this machine, and what the host has in its place. */
export interface FileToUpload {
  /** Absolute paths here and there. */
  local: string;
  remote: string;
  /** What is there from an earlier upload. */
  there: FileEntry | undefined;
  last: LastUpload;
}

/** What is on the host now. */
export interface UploadedFile {
  size: number;
  sha256: string;
  mode: number;
}

/** A file that cannot be read here any more, while others can. The message says why. */
export class FileLeftOutError extends Error {
  override readonly name = 'FileLeftOutError';
}

/**
 * Has the host have a file as it is here. What counts of a file that changes meanwhile is what was sent.
 * @throws {FileLeftOutError} after which the host has nothing in its place
 */
export async function uploadFile(
  files: SftpFiles,
  file: FileToUpload,
  options: TransferOptions,
): Promise<UploadedFile> {
  try {
    const source = await openFile(file.local);
    try {
      return await upload(files, file, source, options);
    } finally {
      await source.close();
    }
  } catch (error) {
    if (error instanceof FileLeftOutError && file.there !== undefined) await files.unlink(file.remote);
    throw error;
  }
}

async function upload(
  files: SftpFiles,
  { remote, there, last }: FileToUpload,
  source: FileHandle,
  options: TransferOptions,
): Promise<UploadedFile> {
  const stats = await source.stat();
  if (!stats.isFile()) throw new FileLeftOutError('it is no file any more');
  const mode = stats.mode & PERMISSIONS;
  const attributes = { mode, ...timesOf(stats.mtimeMs) };
  if (there !== undefined) {
    const known = there.size === stats.size ? last.sha256Of(there) : undefined;
    if (known !== undefined && known === (await sha256Of(source))) {
      await files.setstat(remote, attributes);
      options.onBytes(stats.size);
      return { size: stats.size, sha256: known, mode };
    }
    await files.unlink(remote);
  }
  const handle = await files.open(remote, 'wx');
  try {
    const sent = await sendContent(source, stats.size, { files, path: remote, handle }, options);
    await files.fsetstat(remote, handle, attributes);
    return { ...sent, mode };
  } finally {
    await files.close(remote, handle);
  }
}

/** What has become a symlink or a pipe since it was seen is neither followed nor waited for. */
async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw new FileLeftOutError(reasonOf(error), { cause: error });
  }
}

async function sha256Of(source: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of source.createReadStream({ start: 0, autoClose: false })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** As SFTP has them: whole seconds of an unsigned number of 32 bits. */
function timesOf(mtimeMs: number): { atime: number; mtime: number } {
  const mtime = Math.min(Math.max(Math.floor(mtimeMs / 1_000), 0), 0xffff_ffff);
  return { atime: mtime, mtime };
}
