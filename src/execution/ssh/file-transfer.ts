import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { forEachConcurrently } from '../for-each-concurrently.ts';
import type { SftpFiles } from './sftp-files.ts';

/** What is read or written at once: two packets of SSH, so that a slow line is told of progress as well. */
const CHUNK_BYTES = 64 * 1024;

/** Chunks of a file that are under way at once: a megabyte keeps a line of 80 Mbit/s busy at 100 ms. */
const CHUNKS_UNDER_WAY = 16;

/** What of a transfer is asked for from outside. */
export interface TransferOptions {
  signal: AbortSignal;
  onBytes: (count: number) => void;
}

interface Chunk {
  buffer: Buffer;
  position: number;
}

/** Sends as much of a file as it had when it was opened, and tells what of it was sent. */
export async function sendContent(
  source: FileHandle,
  size: number,
  target: { files: SftpFiles; path: string; handle: Buffer },
  { signal, onBytes }: TransferOptions,
): Promise<{ size: number; sha256: string }> {
  const hash = createHash('sha256');
  const buffers: Buffer[] = [];
  let sent = 0;

  async function* chunks(): AsyncGenerator<Chunk> {
    while (sent < size) {
      const buffer = buffers.pop() ?? Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, size));
      const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, size - sent), sent);
      if (bytesRead === 0) return;
      hash.update(buffer.subarray(0, bytesRead));
      const position = sent;
      sent += bytesRead;
      yield { buffer: buffer.subarray(0, bytesRead), position };
    }
  }

  await forEachConcurrently(chunks(), { limit: CHUNKS_UNDER_WAY, signal }, async ({ buffer, position }) => {
    await target.files.write(target.path, target.handle, buffer, position);
    if (buffer.length === CHUNK_BYTES) buffers.push(buffer);
    onBytes(buffer.length);
  });
  return { size: sent, sha256: hash.digest('hex') };
}

/** Receives as much of a file as it had when it was opened, and tells the SHA-256 of what was received. */
export async function receiveContent(
  source: { files: SftpFiles; path: string; handle: Buffer },
  target: FileHandle,
  { signal, onBytes }: TransferOptions,
): Promise<string> {
  const { size } = await source.files.fstat(source.path, source.handle);
  const received = new ReceivedContent(target);
  const buffers: Buffer[] = [];

  function* chunks(): Generator<Chunk> {
    for (let position = 0; position < size && !received.isComplete; position += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, size - position);
      yield { buffer: buffers.pop()?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length), position };
    }
  }

  await forEachConcurrently(chunks(), { limit: CHUNKS_UNDER_WAY, signal }, async ({ buffer, position }) => {
    await received.add(buffer, source.files.read(source.path, source.handle, buffer, position));
    if (buffer.length === CHUNK_BYTES) buffers.push(buffer);
    onBytes(buffer.length);
  });
  return received.sha256();
}

/** Puts chunks, which arrive in any order, into a file in theirs. */
class ReceivedContent {
  readonly #target: FileHandle;
  readonly #hash = createHash('sha256');
  #last: Promise<void> = Promise.resolve();
  #isComplete = false;

  constructor(target: FileHandle) {
    this.#target = target;
  }

  /** Whether the file turned out to be shorter than it was. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Adds the next chunk, of which so many bytes will have been read. */
  add(buffer: Buffer, read: Promise<number>): Promise<void> {
    this.#last = this.#append(buffer, read, this.#last);
    return this.#last;
  }

  sha256(): string {
    return this.#hash.digest('hex');
  }

  async #append(buffer: Buffer, read: Promise<number>, last: Promise<void>): Promise<void> {
    const [count] = await Promise.all([read, last]);
    if (this.#isComplete) return;
    this.#isComplete = count < buffer.length;
    this.#hash.update(buffer.subarray(0, count));
    await this.#target.appendFile(buffer.subarray(0, count));
  }
}
