import type { FileHandle } from 'node:fs/promises';
import { FileNotReadError } from '../workspace/restore-workspace.ts';
import type { RestoreSource } from '../workspace/restore-workspace.ts';
import { receiveContent } from './file-transfer.ts';
import { RemoteTree } from './remote-tree.ts';
import { SftpRefusedError } from './sftp-files.ts';
import type { SftpFiles } from './sftp-files.ts';

/** Brings back the files of a workspace on a host. */
export class RemoteRestoreSource implements RestoreSource {
  readonly tree: RemoteTree;
  readonly #files: SftpFiles;
  readonly #root: string;
  readonly #signal: AbortSignal;

  constructor(files: SftpFiles, root: string, signal: AbortSignal) {
    this.tree = new RemoteTree(files, root);
    this.#files = files;
    this.#root = root;
    this.#signal = signal;
  }

  async download(path: string, into: FileHandle, onBytes: (count: number) => void): Promise<string> {
    const at = `${this.#root}/${path}`;
    try {
      const handle = await this.#files.open(at, 'r');
      try {
        return await receiveContent({ files: this.#files, path: at, handle }, into, { signal: this.#signal, onBytes });
      } finally {
        await this.#files.close(at, handle);
      }
    } catch (error) {
      if (error instanceof SftpRefusedError) throw new FileNotReadError(error.reason, { cause: error });
      throw error;
    }
  }
}
