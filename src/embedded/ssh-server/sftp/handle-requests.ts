import { constants } from 'node:fs';
import { lstat, open, opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import ssh2, { type FileEntry } from 'ssh2';
import { DONE, END_OF_FILE, type Answer } from './answer.ts';
import { attributesOf, entryOf, permissionsIn, setAttributesOfFile, setAttributesOfPath } from './attributes.ts';
import type { GivenAttributes } from './attributes.ts';
import { failure } from './failure.ts';
import { OpenHandles, type OpenDirectory } from './open-handles.ts';
import { hasCode } from '../../../lib/errors.ts';

const { STATUS_CODE, OPEN_MODE } = ssh2.utils.sftp;

/** A little under the longest packet that OpenSSH's client takes. */
const MAX_READ_BYTES = 255 * 1_024;

/** As OpenSSH's sftp-server. */
const ENTRIES_A_PAGE = 100;

/** Requests that open files and directories, and those about what is open. */
export class HandleRequests {
  readonly #handles = new OpenHandles();
  /** Shared by all reads, of which there is one at a time. */
  #scratch: Buffer | undefined;

  async open(path: string, modes: number, given: GivenAttributes): Promise<Answer> {
    if (this.#handles.isFull) return failure(STATUS_CODE.FAILURE);
    const file = await open(path, openFlags(modes), permissionsIn(given, 0o666));
    const appending = (modes & OPEN_MODE.APPEND) !== 0;
    return { kind: 'handle', handle: this.#handles.add({ kind: 'file', file, appending }) };
  }

  async close(handle: Buffer): Promise<Answer> {
    return (await this.#handles.close(handle)) ? DONE : failure(STATUS_CODE.NO_SUCH_FILE);
  }

  async read(handle: Buffer, offset: number, length: number): Promise<Answer> {
    const opened = this.#handles.file(handle);
    if (!opened) return failure(STATUS_CODE.FAILURE);
    const scratch = (this.#scratch ??= Buffer.allocUnsafeSlow(MAX_READ_BYTES));
    const wanted = Math.min(length, scratch.length);
    if (!isOffset(offset)) return failure(STATUS_CODE.BAD_MESSAGE);
    const { bytesRead } = await opened.file.read(scratch, 0, wanted, offset);
    return bytesRead === 0 && wanted > 0 ? END_OF_FILE : { kind: 'data', data: scratch.subarray(0, bytesRead) };
  }

  async write(handle: Buffer, offset: number, data: Buffer): Promise<Answer> {
    const opened = this.#handles.file(handle);
    if (!opened) return failure(STATUS_CODE.FAILURE);
    if (!isOffset(offset)) return failure(STATUS_CODE.BAD_MESSAGE);
    for (let written = 0; written < data.length;) {
      const position = opened.appending ? null : offset + written;
      const { bytesWritten } = await opened.file.write(data, written, data.length - written, position);
      written += bytesWritten;
    }
    return DONE;
  }

  async fstat(handle: Buffer): Promise<Answer> {
    const opened = this.#handles.any(handle);
    if (!opened) return failure(STATUS_CODE.FAILURE);
    const stats = opened.kind === 'file' ? await opened.file.stat() : await stat(opened.path);
    return { kind: 'attributes', attributes: attributesOf(stats) };
  }

  async fsetstat(handle: Buffer, given: GivenAttributes): Promise<Answer> {
    const opened = this.#handles.any(handle);
    if (!opened) return failure(STATUS_CODE.FAILURE);
    if (opened.kind === 'file') await setAttributesOfFile(opened.file, given);
    else await setAttributesOfPath(opened.path, given);
    return DONE;
  }

  async opendir(path: string): Promise<Answer> {
    if (this.#handles.isFull) return failure(STATUS_CODE.FAILURE);
    const directory = await opendir(path, { bufferSize: ENTRIES_A_PAGE });
    // Node leaves out the first two, which the system lists.
    const opened: OpenDirectory = { kind: 'directory', path, directory, pending: ['.', '..'] };
    return { kind: 'handle', handle: this.#handles.add(opened) };
  }

  async readdir(handle: Buffer): Promise<Answer> {
    const opened = this.#handles.directory(handle);
    if (!opened) return failure(STATUS_CODE.FAILURE);
    for (;;) {
      const page = await takeNames(opened);
      if (page.length === 0) return END_OF_FILE;
      const entries = await Promise.all(page.map((name) => describeEntry(opened.path, name)));
      const names = entries.filter((entry) => entry !== undefined);
      if (names.length > 0) return { kind: 'names', names };
    }
  }

  closeAll(): Promise<void> {
    return this.#handles.closeAll();
  }
}

/** Neither a pipe without a partner nor a terminal may hold up those who come next. */
const NEVER_WAIT = constants.O_NONBLOCK | constants.O_NOCTTY;

function openFlags(modes: number): number {
  const reading = (modes & OPEN_MODE.READ) !== 0;
  const writing = (modes & OPEN_MODE.WRITE) !== 0;
  const access = writing ? (reading ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY;
  const when = (mode: number, flag: number) => ((modes & mode) === 0 ? 0 : flag);
  return (
    access |
    NEVER_WAIT |
    when(OPEN_MODE.APPEND, constants.O_APPEND) |
    when(OPEN_MODE.CREAT, constants.O_CREAT) |
    when(OPEN_MODE.TRUNC, constants.O_TRUNC) |
    when(OPEN_MODE.EXCL, constants.O_EXCL)
  );
}

/** The protocol has 64 bits for it, of which a number holds 53. */
function isOffset(offset: number): boolean {
  return Number.isSafeInteger(offset);
}

async function takeNames({ directory, pending }: OpenDirectory): Promise<string[]> {
  const names = pending.splice(0);
  while (names.length < ENTRIES_A_PAGE) {
    const entry = await directory.read();
    if (!entry) break;
    names.push(entry.name);
  }
  return names;
}

/** Undefined when it was removed since it was listed. */
async function describeEntry(directory: string, name: string): Promise<FileEntry | undefined> {
  try {
    return entryOf(name, await lstat(join(directory, name)));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}
