import type { Dir } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';

export interface OpenFile {
  readonly kind: 'file';
  readonly file: FileHandle;
  /** Writes go to its end, whatever offset they name. */
  readonly appending: boolean;
}

export interface OpenDirectory {
  readonly kind: 'directory';
  readonly path: string;
  readonly directory: Dir;
  /** Names that come before what the directory still has to give. */
  readonly pending: string[];
}

type Opened = OpenFile | OpenDirectory;

/** More than any client needs, fewer than a process may have open. */
const MAX_HANDLES = 512;

/** What one client has open, by the handles that it was given. */
export class OpenHandles {
  readonly #opened = new Map<string, Opened>();
  #last = 0;

  get isFull(): boolean {
    return this.#opened.size >= MAX_HANDLES;
  }

  add(opened: Opened): Buffer {
    this.#last += 1;
    const handle = Buffer.alloc(4);
    handle.writeUInt32BE(this.#last);
    this.#opened.set(handle.toString('hex'), opened);
    return handle;
  }

  file(handle: Buffer): OpenFile | undefined {
    const opened = this.any(handle);
    return opened?.kind === 'file' ? opened : undefined;
  }

  directory(handle: Buffer): OpenDirectory | undefined {
    const opened = this.any(handle);
    return opened?.kind === 'directory' ? opened : undefined;
  }

  any(handle: Buffer): Opened | undefined {
    return this.#opened.get(handle.toString('hex'));
  }

  /** Resolves to whether there was such a handle. */
  async close(handle: Buffer): Promise<boolean> {
    const opened = this.any(handle);
    if (!opened) return false;
    this.#opened.delete(handle.toString('hex'));
    await closeOpened(opened);
    return true;
  }

  async closeAll(): Promise<void> {
    const opened = [...this.#opened.values()];
    this.#opened.clear();
    await Promise.all(opened.map(closeOpened));
  }
}

function closeOpened(opened: Opened): Promise<void> {
  return opened.kind === 'file' ? opened.file.close() : opened.directory.close();
}
