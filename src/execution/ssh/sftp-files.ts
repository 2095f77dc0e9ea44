import ssh2 from 'ssh2';
import type { FileEntryWithStats, InputAttributes, SFTPWrapper, Stats } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { addressOf } from '../../ssh/address.ts';
import type { SshConfig } from '../../ssh/config.ts';
import type { SshConnection } from '../../ssh/connection.ts';

/** Statuses of SFTP, as numbers. */
const NO_SUCH_FILE: number = ssh2.utils.sftp.STATUS_CODE.NO_SUCH_FILE;
const EOF: number = ssh2.utils.sftp.STATUS_CODE.EOF;
const FAILURE: number = ssh2.utils.sftp.STATUS_CODE.FAILURE;

/** A host that has answered nothing for so long is given up, although its connection is alive. */
const LONGEST_SILENCE_MS = 120_000;

/** The host refused an operation on a file. */
export class SftpRefusedError extends EnvironmentFailedError {
  /** What the host itself said. */
  readonly reason: string;
  readonly #status: number;

  constructor(what: string, reason: string, status: number) {
    super('workspace_unusable', `${what}: ${reason}`);
    this.reason = reason;
    this.#status = status;
  }

  /** Whether nothing is there. */
  get isMissing(): boolean {
    return this.#status === NO_SUCH_FILE;
  }
}

type Done<Result> = (error?: Error | null, result?: Result) => void;

/** The files of a host, by SFTP. Every call settles, also when the connection is lost. Paths are absolute. */
export class SftpFiles {
  readonly #sftp: SFTPWrapper;
  readonly #address: string;
  readonly #waiting = new Set<(error: Error) => void>();
  readonly #watch: NodeJS.Timeout;
  readonly #longestSilenceMs: number;
  #answeredAt = performance.now();
  #end: EnvironmentFailedError | undefined;

  private constructor(sftp: SFTPWrapper, connection: SshConnection, address: string, longestSilenceMs: number) {
    this.#sftp = sftp;
    this.#address = address;
    this.#longestSilenceMs = longestSilenceMs;
    this.#watch = setInterval(() => this.#endIfSilent(), longestSilenceMs / 10).unref();
    sftp.on('error', (error: Error) => this.#finish(`its SFTP session failed: ${error.message}`));
    sftp.on('close', () => this.#finish('its SFTP session ended'));
    void connection.closed.then((loss) => this.#finish('the connection was closed', loss));
  }

  /** @throws {EnvironmentFailedError} when the host has no SFTP, or the connection is lost */
  static async open(
    connection: SshConnection,
    config: SshConfig,
    { longestSilenceMs = LONGEST_SILENCE_MS }: { longestSilenceMs?: number } = {},
  ): Promise<SftpFiles> {
    return new SftpFiles(await connection.sftp(), connection, addressOf(config), longestSilenceMs);
  }

  /** Undefined where nothing is. Symlinks are not followed. */
  async lstat(path: string): Promise<Stats | undefined> {
    try {
      return await this.#call<Stats>('look at', path, (done) => this.#sftp.lstat(path, done));
    } catch (error) {
      if (error instanceof SftpRefusedError && error.isMissing) return undefined;
      throw error;
    }
  }

  /** Everything in a directory, a few at a time, without `.` and `..`. */
  async *list(path: string): AsyncGenerator<FileEntryWithStats[]> {
    const handle = await this.#call<Buffer>('list', path, (done) => this.#sftp.opendir(path, done));
    try {
      for (;;) {
        const entries = await this.#listMore(path, handle);
        if (entries === undefined) return;
        yield entries;
      }
    } finally {
      await this.close(path, handle);
    }
  }

  readlink(path: string): Promise<string> {
    return this.#call('read', path, (done) => this.#sftp.readlink(path, done));
  }

  async symlink(target: string, path: string): Promise<void> {
    await this.#call('make', path, (done) => this.#sftp.symlink(target, path, done));
  }

  async mkdir(path: string, mode: number): Promise<void> {
    await this.#call('make', path, (done) => this.#sftp.mkdir(path, { mode }, done));
  }

  async rmdir(path: string): Promise<void> {
    await this.#call('remove', path, (done) => this.#sftp.rmdir(path, done));
  }

  async unlink(path: string): Promise<void> {
    await this.#call('remove', path, (done) => this.#sftp.unlink(path, done));
  }

  /** Follows symlinks: only for what is known to be none. */
  async setstat(path: string, attributes: InputAttributes): Promise<void> {
    await this.#call('change', path, (done) => this.#sftp.setstat(path, attributes, done));
  }

  /** Opens a file to be read, or one that must not be there yet to be written. */
  open(path: string, flags: 'r' | 'wx', mode = 0o600): Promise<Buffer> {
    const what = flags === 'r' ? 'read' : 'write';
    return this.#call(what, path, (done) => this.#sftp.open(path, flags, mode, done));
  }

  async close(path: string, handle: Buffer): Promise<void> {
    await this.#call('close', path, (done) => this.#sftp.close(handle, done));
  }

  fstat(path: string, handle: Buffer): Promise<Stats> {
    return this.#call('look at', path, (done) => this.#sftp.fstat(handle, done));
  }

  async fsetstat(path: string, handle: Buffer, attributes: InputAttributes): Promise<void> {
    await this.#call('change', path, (done) => this.#sftp.fsetstat(handle, attributes, done));
  }

  /** Fills the buffer from a position on, as far as the file goes; tells how many bytes that were. */
  async read(path: string, handle: Buffer, buffer: Buffer, position: number): Promise<number> {
    let filled = 0;
    while (filled < buffer.length) {
      const count = await this.#call<number>('read', path, (done) =>
        this.#sftp.read(handle, buffer, filled, buffer.length - filled, position + filled, done),
      );
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  async write(path: string, handle: Buffer, bytes: Buffer, position: number): Promise<void> {
    await this.#call('write', path, (done) => this.#sftp.write(handle, bytes, 0, bytes.length, position, done));
  }

  /** Writes a file that must not be there yet. Nobody but its owner may read it. */
  async writeNew(path: string, bytes: Buffer, mode = 0o600): Promise<void> {
    const handle = await this.open(path, 'wx', mode);
    try {
      await this.write(path, handle, bytes, 0);
    } finally {
      await this.close(path, handle);
    }
  }

  /** Reads the beginning of a file. */
  async readBeginning(path: string, maximumBytes: number): Promise<Buffer> {
    const handle = await this.open(path, 'r');
    try {
      const { size } = await this.fstat(path, handle);
      const buffer = Buffer.alloc(Math.min(size, maximumBytes));
      return buffer.subarray(0, await this.read(path, handle, buffer, 0));
    } finally {
      await this.close(path, handle);
    }
  }

  /** Stops watching; the session belongs to the connection. */
  release(): void {
    this.#finish('it is not used any more');
  }

  async #listMore(path: string, handle: Buffer): Promise<FileEntryWithStats[] | undefined> {
    return this.#call<FileEntryWithStats[] | undefined>('list', path, (done) =>
      this.#sftp.readdir(handle, (error, entries) => {
        if (statusOf(error) === EOF) done(undefined, undefined);
        else done(error, entries);
      }),
    );
  }

  #call<Result>(what: string, path: string, start: (done: Done<Result>) => void): Promise<Result> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      if (this.#waiting.size === 0) this.#answeredAt = performance.now();
      this.#waiting.add(reject);
      start((error, result) => {
        this.#waiting.delete(reject);
        this.#answeredAt = performance.now();
        if (error) reject(this.#failure(what, path, error));
        else resolve(result as Result);
      });
    });
  }

  #failure(what: string, path: string, error: Error): EnvironmentFailedError {
    const status = statusOf(error);
    // Without a status it is not the host that speaks: the session is gone.
    if (status === undefined) return this.#end ?? this.#gone(error.message);
    return new SftpRefusedError(`cannot ${what} ${path} on ${this.#address}`, reasonOf(error, status), status);
  }

  #endIfSilent(): void {
    if (this.#waiting.size === 0 || performance.now() - this.#answeredAt < this.#longestSilenceMs) return;
    this.#finish(`its SFTP session has not answered for ${this.#longestSilenceMs / 1_000} s`);
    this.#sftp.end();
  }

  #finish(detail: string, loss?: EnvironmentFailedError): void {
    clearInterval(this.#watch);
    this.#end ??= loss ?? this.#gone(detail);
    for (const reject of this.#waiting) reject(this.#end);
    this.#waiting.clear();
  }

  #gone(detail: string): EnvironmentFailedError {
    return new EnvironmentFailedError('environment_unreachable', `${this.#address} gives no files: ${detail}`);
  }
}

/** The status that a host has for whatever has none of its own says nothing. */
function reasonOf({ message }: Error, status: number): string {
  return status === FAILURE ? `${message}; is the disk of the host full, or something else in the way?` : message;
}

function statusOf(error: Error | undefined | null): number | undefined {
  return error && 'code' in error && typeof error.code === 'number' ? error.code : undefined;
}
