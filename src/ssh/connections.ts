import { EnvironmentFailedError } from '../contracts/index.ts';
import type { SecretResolver } from '../secrets/resolver.ts';
import type { SshConfig } from './config.ts';
import { SshConnection } from './connection.ts';

/** How connections are kept. */
export interface SshConnectionsOptions {
  secrets: SecretResolver;
  /** How long a connection that nobody uses is kept, in milliseconds. Default one minute. */
  idleMs?: number;
  /** Of each connection; default as {@link SshConnection.connect} has it. */
  keepAliveIntervalMs?: number;
}

/** What a connection is kept for. */
export interface ConnectedEnvironment {
  id: string;
  config: SshConfig;
}

const IDLE_MS = 60_000;

/**
 * Keeps one connection for each environment, shared by all who use it at a time. It is made when it is first needed, and
 * anew when it was lost. A connection carries eight sessions at a time, so it is meant for short ones: whoever runs a
 * command for hours makes a connection of its own.
 */
export class SshConnections {
  readonly #options: SshConnectionsOptions;
  readonly #shared = new Map<string, SharedConnection>();
  #isClosed = false;

  constructor(options: SshConnectionsOptions) {
    this.#options = options;
  }

  /**
   * Does work on the environment's connection. When that turns out to be dead, the work is done once more on a new one:
   * it has to be idempotent.
   * @throws what the work throws, or what keeps the connection from being made
   */
  async use<Result>(
    environment: ConnectedEnvironment,
    signal: AbortSignal,
    work: (connection: SshConnection) => Promise<Result>,
  ): Promise<Result> {
    const first = await this.#attempt(environment, signal, work);
    if ('result' in first) return first.result;
    if (!first.isLost || signal.aborted || this.#isClosed) throw first.error;
    const second = await this.#attempt(environment, signal, work);
    if ('result' in second) return second.result;
    throw second.error;
  }

  /** Closes all connections, also those in use. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#shared.values()].map((shared) => shared.close()));
  }

  async #attempt<Result>(
    environment: ConnectedEnvironment,
    signal: AbortSignal,
    work: (connection: SshConnection) => Promise<Result>,
  ): Promise<{ result: Result } | { error: unknown; isLost: boolean }> {
    const shared = this.#sharedFor(environment);
    const connection = await shared.borrow(signal);
    try {
      return { result: await work(connection) };
    } catch (error) {
      return { error, isLost: !connection.isOpen };
    } finally {
      shared.giveBack();
    }
  }

  #sharedFor({ id, config }: ConnectedEnvironment): SharedConnection {
    if (this.#isClosed) {
      throw new EnvironmentFailedError('driver_failed', 'the connections to environments are closed: the worker stops');
    }
    // A config that was changed asks for a connection of its own; the one before is closed for want of use.
    const key = JSON.stringify([id, config]);
    const existing = this.#shared.get(key);
    if (existing !== undefined) return existing;
    const { idleMs = IDLE_MS, ...options } = this.#options;
    const shared: SharedConnection = new SharedConnection({
      idleMs,
      open: (signal) => SshConnection.connect(config, { ...options, signal }),
      onOver: () => {
        if (this.#shared.get(key) === shared) this.#shared.delete(key);
      },
    });
    this.#shared.set(key, shared);
    return shared;
  }
}

interface SharedConnectionOptions {
  idleMs: number;
  open: (signal: AbortSignal) => Promise<SshConnection>;
  /** Called as soon as it should be lent to nobody any more. */
  onOver: () => void;
}

/** One connection, from when it is first wanted until nobody wants it any more, or it is lost. */
class SharedConnection {
  readonly #options: SharedConnectionOptions;
  readonly #abandoned = new AbortController();
  readonly #opening: Promise<SshConnection>;
  /** The connection once it is open, undefined once it could not be opened. */
  readonly #opened: Promise<SshConnection | undefined>;
  #isOpening = true;
  #users = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: SharedConnectionOptions) {
    this.#options = options;
    this.#opening = options.open(this.#abandoned.signal);
    this.#opened = this.#watch();
  }

  /** Who gets it has to give it back. Rejects with the reason of the signal, or with what keeps it from being opened. */
  async borrow(signal: AbortSignal): Promise<SshConnection> {
    clearTimeout(this.#idle);
    this.#users += 1;
    try {
      return await unlessAborted(this.#opening, signal);
    } catch (error) {
      this.giveBack();
      throw error;
    }
  }

  giveBack(): void {
    this.#users -= 1;
    if (this.#users > 0) return;
    if (this.#isOpening) void this.close();
    else this.#idle = setTimeout(() => void this.close(), this.#options.idleMs).unref();
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    this.#options.onOver();
    this.#abandoned.abort(new EnvironmentFailedError('driver_failed', 'nobody waits for the connection any more'));
    const connection = await this.#opened;
    await connection?.close();
  }

  async #watch(): Promise<SshConnection | undefined> {
    try {
      const connection = await this.#opening;
      void connection.closed.then(this.#options.onOver);
      return connection;
    } catch {
      // Those who wait for it are told why.
      this.#options.onOver();
      return undefined;
    } finally {
      this.#isOpening = false;
    }
  }
}

/** The work's outcome, unless the signal is aborted first. */
function unlessAborted<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
