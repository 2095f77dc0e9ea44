import { EnvironmentFailedError } from '../contracts/index.ts';
import { raceAbort } from '../lib/abort.ts';
import type { SecretResolver } from '../secrets/resolver.ts';
import type { SshConfig } from './config.ts';
import { SshConnection } from './connection.ts';

/** How connections are kept. */
export interface SshConnectionPoolOptions {
  secrets: SecretResolver;
  /** How long an unused connection is kept, in milliseconds. Default one minute. */
  idleMs?: number;
  /** Of each connection; default as in {@link SshConnection.connect}. */
  keepAliveIntervalMs?: number;
}

/** The environment that a connection is for. */
export interface ConnectedEnvironment {
  id: string;
  config: SshConfig;
}

const IDLE_MS = 60_000;

/**
 * Keeps one connection for each environment, shared by its concurrent users. It is opened on first use and again after a
 * loss. A connection carries eight sessions, so it is for short ones: a command that runs for hours opens its own.
 */
export class SshConnectionPool {
  readonly #options: SshConnectionPoolOptions;
  readonly #connections = new Map<string, PooledConnection>();
  #isClosed = false;

  constructor(options: SshConnectionPoolOptions) {
    this.#options = options;
  }

  /**
   * Does work on the environment's connection. When the connection turns out to be lost, the work is done once more on a
   * new one: it has to be idempotent.
   * @throws what the work throws, or why the connection cannot be opened
   */
  async use<Result>(
    environment: ConnectedEnvironment,
    signal: AbortSignal,
    work: (connection: SshConnection) => Promise<Result>,
  ): Promise<Result> {
    const first = await this.#attempt(environment, signal, work);
    if ('result' in first) return first.result;
    if (!first.isConnectionLost || signal.aborted || this.#isClosed) throw first.error;
    const second = await this.#attempt(environment, signal, work);
    if ('result' in second) return second.result;
    throw second.error;
  }

  /** Closes all connections, those in use included. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#connections.values()].map((pooled) => pooled.close()));
  }

  async #attempt<Result>(
    environment: ConnectedEnvironment,
    signal: AbortSignal,
    work: (connection: SshConnection) => Promise<Result>,
  ): Promise<{ result: Result } | { error: unknown; isConnectionLost: boolean }> {
    const pooled = this.#connectionFor(environment);
    const connection = await pooled.acquire(signal);
    try {
      return { result: await work(connection) };
    } catch (error) {
      return { error, isConnectionLost: !connection.isOpen };
    } finally {
      pooled.release();
    }
  }

  #connectionFor({ id, config }: ConnectedEnvironment): PooledConnection {
    if (this.#isClosed) {
      throw new EnvironmentFailedError('driver_failed', 'the connections to environments are closed: the worker stops');
    }
    // A changed config gets a connection of its own; the old one is closed once it is idle.
    const key = JSON.stringify([id, config]);
    const existing = this.#connections.get(key);
    if (existing !== undefined) return existing;
    const { idleMs = IDLE_MS, ...options } = this.#options;
    const pooled: PooledConnection = new PooledConnection({
      idleMs,
      open: (signal) => SshConnection.connect(config, { ...options, signal }),
      onUnusable: () => {
        if (this.#connections.get(key) === pooled) this.#connections.delete(key);
      },
    });
    this.#connections.set(key, pooled);
    return pooled;
  }
}

interface PooledConnectionOptions {
  idleMs: number;
  open: (signal: AbortSignal) => Promise<SshConnection>;
  /** Called as soon as nobody may acquire it any more. */
  onUnusable: () => void;
}

/** One connection, from its first acquisition until it is idle for too long, or lost. */
class PooledConnection {
  readonly #options: PooledConnectionOptions;
  readonly #abandoned = new AbortController();
  readonly #opening: Promise<SshConnection>;
  /** The connection once it is open, undefined when it could not be opened. */
  readonly #opened: Promise<SshConnection | undefined>;
  #isOpening = true;
  #users = 0;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(options: PooledConnectionOptions) {
    this.#options = options;
    this.#opening = options.open(this.#abandoned.signal);
    this.#opened = this.#watch();
  }

  /** Each acquisition needs a {@link release}. Rejects with the signal's reason, or with why it cannot be opened. */
  async acquire(signal: AbortSignal): Promise<SshConnection> {
    clearTimeout(this.#idleTimer);
    this.#users += 1;
    try {
      return await raceAbort(this.#opening, signal);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  release(): void {
    this.#users -= 1;
    if (this.#users > 0) return;
    if (this.#isOpening) void this.close();
    else this.#idleTimer = setTimeout(() => void this.close(), this.#options.idleMs).unref();
  }

  async close(): Promise<void> {
    clearTimeout(this.#idleTimer);
    this.#options.onUnusable();
    this.#abandoned.abort(new EnvironmentFailedError('driver_failed', 'nobody waits for the connection any more'));
    const connection = await this.#opened;
    await connection?.close();
  }

  async #watch(): Promise<SshConnection | undefined> {
    try {
      const connection = await this.#opening;
      void connection.closed.then(this.#options.onUnusable);
      return connection;
    } catch {
      // Every acquire() rejects with the reason.
      this.#options.onUnusable();
      return undefined;
    } finally {
      this.#isOpening = false;
    }
  }
}
