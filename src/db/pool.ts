import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'pg';
import type { PoolClient, PoolConfig } from 'pg';
import { toClientConfig } from '../lib/postgres-client.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';
import { prepareSession } from './session.ts';
import type { SessionSettings } from './session.ts';
import { kindOfSqlError } from './sql-errors.ts';

export const CONNECT_TIMEOUT_MS = 10_000;
export const CLOSE_TIMEOUT_SECONDS = 2;

/** A transaction was given up because nothing arrived. Node's code for it makes it an outage. */
class TransactionTimeoutError extends Error {
  override readonly name = 'TransactionTimeoutError';
  readonly code = 'ETIMEDOUT';

  constructor(timeoutMs: number, cause: unknown) {
    super(`Postgres has not answered within ${timeoutMs} ms`, { cause });
  }
}

/** How a {@link ConnectionPool} connects. */
export interface ConnectionPoolOptions extends Pick<
  PoolConfig,
  'query_timeout' | 'statement_timeout' | 'idle_in_transaction_session_timeout'
> {
  maximumConnections: number;
  /** Name that `pg_stat_activity` shows, unless the URL gives one. */
  applicationName: string;
  session: SessionSettings;
  /** Longest wait for a connection, whether it is being opened or all are in use; default 10 s, 0 for no limit. */
  waitTimeoutMs?: number;
  /** How long {@link ConnectionPool.withConnection} may keep a connection; undefined for no limit. */
  useTimeoutMs?: number;
}

/**
 * Connections by node-postgres, each with Lessor's session settings. Node-postgres rejects what runs on a connection that
 * is lost in the middle of a transaction, where postgres.js 3.4.9 throws an error that nothing can catch, and the process
 * ends (porsager/postgres issues 1066 and 1154).
 */
export class ConnectionPool {
  readonly pool: Pool;
  readonly #inUse = new Set<PoolClient>();
  readonly #useTimeoutMs: number | undefined;
  #closing: Promise<void> | undefined;

  /** @throws {InvalidConfigurationError} when the URL is not understood */
  constructor(url: string, options: ConnectionPoolOptions) {
    const { maximumConnections, applicationName, session, waitTimeoutMs, useTimeoutMs, ...limits } = options;
    const preparation = prepareSession(session);
    this.#useTimeoutMs = useTimeoutMs;
    this.pool = new Pool({
      application_name: applicationName,
      ...toClientConfig(parsePostgresUrl(url)),
      ...limits,
      max: maximumConnections,
      connectionTimeoutMillis: waitTimeoutMs ?? CONNECT_TIMEOUT_MS,
      keepAlive: true,
      // The pool awaits what this returns and rejects the connection if it fails; its types know only void.
      onConnect: (client): unknown => client.query(preparation),
    });
    this.pool.on('acquire', (client) => this.#inUse.add(client));
    this.pool.on('release', (_error, client) => this.#inUse.delete(client));
    // A lost connection also rejects what runs on it, and the pool opens a new one.
    this.pool.on('error', () => undefined);
    this.pool.on('connect', (client) => client.on('error', () => undefined));
  }

  /** Lends a connection, which is dropped afterwards when it was lost or took too long. */
  async withConnection<Result>(work: (client: PoolClient) => Promise<Result>): Promise<Result> {
    const client = await this.pool.connect();
    const timeoutMs = this.#useTimeoutMs;
    let isLate = false;
    let isUsable = true;
    const expire = () => {
      isLate = true;
      destroy(client);
    };
    const deadline = timeoutMs === undefined ? undefined : setTimeout(expire, timeoutMs);
    try {
      return await work(client);
    } catch (error) {
      // What Postgres says of its own state can be true of the session only, such as that it is read-only.
      isUsable = kindOfSqlError(error) !== 'unreachable';
      throw isLate ? new TransactionTimeoutError(timeoutMs!, error) : error;
    } finally {
      clearTimeout(deadline);
      client.release(!isUsable);
    }
  }

  /** Lets queries in flight finish for at most so long, then destroys their connections. A second call awaits the first. */
  close(timeoutSeconds = CLOSE_TIMEOUT_SECONDS): Promise<void> {
    this.#closing ??= this.#close(timeoutSeconds);
    return this.#closing;
  }

  async #close(timeoutSeconds: number): Promise<void> {
    const ended = this.pool.end();
    await Promise.race([ended, sleep(timeoutSeconds * 1_000, undefined, { ref: false })]);
    for (const client of this.#inUse) destroy(client);
    await ended;
  }
}

/** Ends a connection immediately, so that what waits for an answer on it is rejected. */
function destroy(client: PoolClient): void {
  client.connection.stream.destroy();
}
