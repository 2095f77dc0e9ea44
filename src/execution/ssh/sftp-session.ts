import ssh2 from 'ssh2';
import type { FileEntryWithStats, InputAttributes, SFTPWrapper, Stats } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { addressOf } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import type { SshConnection } from '../../ssh/connection.ts';

/** Status codes of SFTP. */
const NO_SUCH_FILE: number = ssh2.utils.sftp.STATUS_CODE.NO_SUCH_FILE;
const EOF: number = ssh2.utils.sftp.STATUS_CODE.EOF;
const FAILURE: number = ssh2.utils.sftp.STATUS_CODE.FAILURE;

/** A session that answers nothing for so long is ended, although its connection is alive. */
const RESPONSE_TIMEOUT_MS = 120_000;

/** The host answered an operation on a file with an error status. */
export class SftpStatusError extends EnvironmentFailedError {
  /** The host's own message. */
  readonly reason: string;
  readonly #status: number;

  constructor(failure: string, reason: string, status: number) {
    super('workspace_unusable', `${failure}: ${reason}`);
    this.reason = reason;
    this.#status = status;
  }

  /** Whether the file does not exist. */
  get isMissing(): boolean {
    return this.#status === NO_SUCH_FILE;
  }
}

type Done<Result> = (error?: Error | null, result?: Result) => void;

/** The SFTP session of a connection, with promises. Every call settles, also on a lost connection. Paths are absolute. */
export class SftpSession {
  readonly #sftp: SFTPWrapper;
  readonly #address: string;
  readonly #pending = new Set<(error: Error) => void>();
  readonly #watchdog: NodeJS.Timeout;
  readonly #responseTimeoutMs: number;
  #answeredAt = performance.now();
  #endReason: EnvironmentFailedError | undefined;

  private constructor(sftp: SFTPWrapper, connection: SshConnection, address: string, responseTimeoutMs: number) {
    this.#sftp = sftp;
    this.#address = address;
    this.#responseTimeoutMs = responseTimeoutMs;
    this.#watchdog = setInterval(() => this.#endIfSilent(), responseTimeoutMs / 10).unref();
    sftp.on('error', (error: Error) => this.#finish(`its SFTP session failed: ${error.message}`));
    sftp.on('close', () => this.#finish('its SFTP session ended'));
    void connection.closed.then((loss) => this.#finish('the connection was closed', loss));
  }

  /** @throws {EnvironmentFailedError} when the host has no SFTP that answers, or the connection is lost */
  static async open(
    connection: SshConnection,
    config: SshConfig,
    { signal, responseTimeoutMs = RESPONSE_TIMEOUT_MS }: { signal: AbortSignal; responseTimeoutMs?: number },
  ): Promise<SftpSession> {
    return new SftpSession(await connection.sftp(signal), connection, addressOf(config), responseTimeoutMs);
  }

  /** Undefined when nothing exists there. Does not follow symlinks. */
  async lstat(path: string): Promise<Stats | undefined> {
    try {
      return await this.#call<Stats>('stat', path, (done) => this.#sftp.lstat(path, done));
    } catch (error) {
      if (error instanceof SftpStatusError && error.isMissing) return undefined;
      throw error;
    }
  }

  /** The entries of a directory in batches, without `.` and `..`. */
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
    await this.#call('create', path, (done) => this.#sftp.symlink(target, path, done));
  }

  async mkdir(path: string, mode: number): Promise<void> {
    await this.#call('create', path, (done) => this.#sftp.mkdir(path, { mode }, done));
  }

  async rmdir(path: string): Promise<void> {
    await this.#call('remove', path, (done) => this.#sftp.rmdir(path, done));
  }

  async unlink(path: string): Promise<void> {
    await this.#call('remove', path, (done) => this.#sftp.unlink(path, done));
  }

  /** Follows symlinks: only for paths that are known not to be one. */
  async setstat(path: string, attributes: InputAttributes): Promise<void> {
    await this.#call('change', path, (done) => this.#sftp.setstat(path, attributes, done));
  }

  /** Opens an existing file for reading (`r`), or creates one that must not exist yet (`wx`). */
  open(path: string, flags: 'r' | 'wx', mode = 0o600): Promise<Buffer> {
    return this.#call(flags === 'r' ? 'read' : 'write', path, (done) => this.#sftp.open(path, flags, mode, done));
  }

  async close(path: string, handle: Buffer): Promise<void> {
    await this.#call('close', path, (done) => this.#sftp.close(handle, done));
  }

  fstat(path: string, handle: Buffer): Promise<Stats> {
    return this.#call('stat', path, (done) => this.#sftp.fstat(handle, done));
  }

  async fsetstat(path: string, handle: Buffer, attributes: InputAttributes): Promise<void> {
    await this.#call('change', path, (done) => this.#sftp.fsetstat(handle, attributes, done));
  }

  /** Fills the buffer from a position on, as far as the file goes; resolves to the number of bytes. */
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

  /** Creates a file that must not exist yet, readable by its owner alone. */
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

  /** Stops the watchdog; the session belongs to the connection. */
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

  #call<Result>(action: string, path: string, start: (done: Done<Result>) => void): Promise<Result> {
    if (this.#endReason !== undefined) return Promise.reject(this.#endReason);
    return new Promise((resolve, reject) => {
      if (this.#pending.size === 0) this.#answeredAt = performance.now();
      this.#pending.add(reject);
      start((error, result) => {
        this.#pending.delete(reject);
        this.#answeredAt = performance.now();
        if (error) reject(this.#failure(action, path, error));
        else resolve(result as Result);
      });
    });
  }

  #failure(action: string, path: string, error: Error): EnvironmentFailedError {
    const status = statusOf(error);
    // An error without a status comes from ssh2 itself: the session is gone.
    if (status === undefined) return this.#endReason ?? this.#gone(error.message);
    return new SftpStatusError(`cannot ${action} ${path} on ${this.#address}`, reasonOf(error, status), status);
  }

  #endIfSilent(): void {
    if (this.#pending.size === 0 || performance.now() - this.#answeredAt < this.#responseTimeoutMs) return;
    this.#finish(`its SFTP session has not answered for ${this.#responseTimeoutMs / 1_000} s`);
    this.#sftp.end();
  }

  #finish(detail: string, loss?: EnvironmentFailedError): void {
    clearInterval(this.#watchdog);
    this.#endReason ??= loss ?? this.#gone(detail);
    for (const reject of this.#pending) reject(this.#endReason);
    this.#pending.clear();
  }

  #gone(detail: string): EnvironmentFailedError {
    return new EnvironmentFailedError('environment_unreachable', `${this.#address} gives no files: ${detail}`);
  }
}

/** FAILURE stands for every error without a status of its own, and its message says nothing. */
function reasonOf({ message }: Error, status: number): string {
  return status === FAILURE ? `${message}; is the disk of the host full, or something else in the way?` : message;
}

function statusOf(error: Error | undefined | null): number | undefined {
  return error && 'code' in error && typeof error.code === 'number' ? error.code : undefined;
}
