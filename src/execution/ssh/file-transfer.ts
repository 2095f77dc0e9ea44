import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { forEachConcurrently } from '../../lib/concurrency.ts';
import type { SftpSession } from './sftp-session.ts';

/** Size of one read or write: two SSH packets, so that progress is visible on a slow line as well. */
const CHUNK_BYTES = 64 * 1024;

/** Chunks of a file in flight: 1 MiB keeps a line of 80 Mbit/s busy at 100 ms of round-trip time. */
const CONCURRENT_CHUNKS = 16;

/** Options of a transfer. */
export interface TransferOptions {
  signal: AbortSignal;
  onBytes: (count: number) => void;
}

/** An open file on the host. */
export interface RemoteFile {
  sftp: SftpSession;
  path: string;
  handle: Buffer;
}

interface Chunk {
  buffer: Buffer;
  position: number;
}

/** Sends the first `size` bytes of a file, and resolves to what was sent. */
export async function sendContent(
  source: FileHandle,
  size: number,
  { sftp, path, handle }: RemoteFile,
  { signal, onBytes }: TransferOptions,
): Promise<{ size: number; sha256: string }> {
  const hash = createHash('sha256');
  const freeBuffers: Buffer[] = [];
  let sent = 0;

  async function* chunks(): AsyncGenerator<Chunk> {
    while (sent < size) {
      const buffer = freeBuffers.pop() ?? Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, size));
      const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, size - sent), sent);
      if (bytesRead === 0) return;
      hash.update(buffer.subarray(0, bytesRead));
      const position = sent;
      sent += bytesRead;
      yield { buffer: buffer.subarray(0, bytesRead), position };
    }
  }

  await forEachConcurrently(chunks(), { concurrency: CONCURRENT_CHUNKS, signal }, async ({ buffer, position }) => {
    await sftp.write(path, handle, buffer, position);
    if (buffer.length === CHUNK_BYTES) freeBuffers.push(buffer);
    onBytes(buffer.length);
  });
  return { size: sent, sha256: hash.digest('hex') };
}

/** Receives a file up to the size it has now, and resolves to the SHA-256 of what was received. */
export async function receiveContent(
  { sftp, path, handle }: RemoteFile,
  target: FileHandle,
  { signal, onBytes }: TransferOptions,
): Promise<string> {
  const { size } = await sftp.fstat(path, handle);
  const received = new OrderedWriter(target);
  const freeBuffers: Buffer[] = [];

  function* chunks(): Generator<Chunk> {
    for (let position = 0; position < size && !received.isComplete; position += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, size - position);
      yield { buffer: freeBuffers.pop()?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length), position };
    }
  }

  await forEachConcurrently(chunks(), { concurrency: CONCURRENT_CHUNKS, signal }, async ({ buffer, position }) => {
    await received.add(buffer, sftp.read(path, handle, buffer, position));
    if (buffer.length === CHUNK_BYTES) freeBuffers.push(buffer);
    onBytes(buffer.length);
  });
  return received.sha256();
}

/** Appends chunks to a file in their order, although their reads complete in any order. */
class OrderedWriter {
  readonly #target: FileHandle;
  readonly #hash = createHash('sha256');
  #last: Promise<void> = Promise.resolve();
  #isComplete = false;

  constructor(target: FileHandle) {
    this.#target = target;
  }

  /** Whether a read found the end of the file, which has become shorter. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Adds the next chunk, whose read resolves to its number of bytes. */
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
