import { drizzle as overNodePostgres } from 'drizzle-orm/node-postgres';
import { drizzle as overPostgresJs } from 'drizzle-orm/postgres-js';
import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import postgres from 'postgres';
import { chooseHost, socketPath, toTlsOptions } from '../lib/postgres-client.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';
import { CLOSE_TIMEOUT_SECONDS, CONNECT_TIMEOUT_MS, ConnectionPool } from './pool.ts';
import { prepareSession } from './session.ts';

/** A drizzle database over node-postgres or postgres.js, or a transaction that the caller has open on one. */
export type Db = PgDatabase<PgQueryResultHKT>;

/** An open transaction. What must be atomic takes one, so that it cannot run outside. */
export type Transaction = Parameters<Parameters<Db['transaction']>[0]>[0];

/**
 * An open transaction of a service, over any driver and tables of its own. A {@link Db} outside a transaction cannot be
 * rolled back, so the compiler rejects it.
 */
export type CallerTransaction = Pick<Transaction, 'execute' | 'rollback'>;

/** A {@link Db} that owns its connections. */
export interface DbPool extends Db {
  /** Ends all connections once the queries in flight are done, at the latest after `timeoutSeconds` (default 2). */
  close(timeoutSeconds?: number): Promise<void>;
}

/** How to connect. */
export interface DbOptions {
  /** Most connections that are open concurrently; default 10. */
  maximumConnections?: number;
  /** Name that `pg_stat_activity` shows, unless the URL gives one; default `lessor`. */
  applicationName?: string;
}

/** Options of {@link createDb}. */
export interface CreateDbOptions extends DbOptions {
  /** How long a statement may take, its waiting for locks included; 0 for no limit, default one minute. */
  statementTimeoutMs?: number;
  /**
   * How long a transaction may wait for its next statement, holding the locks of its companies against every worker;
   * 0 for no limit, default one minute.
   */
  idleInTransactionTimeoutMs?: number;
}

const DEFAULT_LIMIT_MS = 60_000;
const DEFAULT_LIMITS = { statement_timeout: DEFAULT_LIMIT_MS, idle_in_transaction_session_timeout: DEFAULT_LIMIT_MS };

/** By how much longer this process waits than Postgres: then the connection is lost, not slow. */
const ANSWER_GRACE_MS = 5_000;

/**
 * Connects to Lessor's database by node-postgres. Connections are opened when first needed. One that is lost rejects
 * what runs on it, transactions included, and is replaced.
 *
 * @param url `postgres://user:password@host:port/database`; docs/connections.md lists its parameters
 * @throws {InvalidConfigurationError} when the URL is not understood
 */
export function createDb(url: string, options: CreateDbOptions = {}): DbPool {
  const { statementTimeoutMs = DEFAULT_LIMIT_MS, idleInTransactionTimeoutMs = DEFAULT_LIMIT_MS } = options;
  const connections = new ConnectionPool(url, {
    maximumConnections: options.maximumConnections ?? 10,
    applicationName: options.applicationName ?? 'lessor',
    session: {
      statement_timeout: statementTimeoutMs,
      idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    },
    query_timeout: statementTimeoutMs === 0 ? 0 : statementTimeoutMs + ANSWER_GRACE_MS,
    // Whoever waits for a connection waits for another one's statement.
    waitTimeoutMs: statementTimeoutMs,
  });
  const transaction: DbPool['transaction'] = (work, config) =>
    connections.withConnection((client) => overNodePostgres(client).transaction(work, config));
  const close = (timeoutSeconds?: number) => connections.close(timeoutSeconds);
  return Object.assign(overNodePostgres(connections.pool), { transaction, close });
}

/** Options of {@link openReadDb}. */
export interface ReadDbOptions {
  applicationName: string;
  /** Ends the connection when aborted, also while it is being opened. */
  signal?: AbortSignal;
}

/**
 * Opens one connection by postgres.js, for reading: it must run no transaction, as one that is cut in the middle ends the
 * process. Resolves once Postgres has answered.
 * @throws {InvalidConfigurationError} when the URL is not understood
 */
export async function openReadDb(url: string, { applicationName, signal }: ReadDbOptions): Promise<DbPool> {
  const settings = parsePostgresUrl(url);
  const chosen = await chooseHost(settings);
  signal?.throwIfAborted();
  const path = socketPath(chosen);
  const client = postgres({
    // As lists, which the types leave out: postgres.js splits a text at its colons.
    host: [chosen.host] as unknown as string,
    port: [chosen.port] as unknown as number,
    ...(path === undefined ? {} : { path }),
    username: settings.user,
    ...(settings.password === undefined ? {} : { password: settings.password }),
    database: settings.database,
    ssl: toTlsOptions(settings) ?? false,
    max: 1,
    // It would ask for types in a query of its own, whose failure ends the process.
    fetch_types: false,
    connect_timeout: CONNECT_TIMEOUT_MS / 1_000,
    connection: {
      application_name: settings.applicationName ?? applicationName,
      ...(settings.options === undefined ? {} : { options: settings.options }),
    },
    onnotice: () => undefined,
  });
  const close = (timeoutSeconds = CLOSE_TIMEOUT_SECONDS) => client.end({ timeout: timeoutSeconds });
  signal?.addEventListener('abort', () => void close(0), { once: true });
  const db = Object.assign(overPostgresJs(client), { close });
  try {
    await db.execute(sql.raw(prepareSession(DEFAULT_LIMITS)));
    return db;
  } catch (error) {
    await close(0);
    throw error;
  }
}

/** Runs a statement and returns its rows, whatever the driver's shape of a result. */
export async function queryRows<Row>(db: Db, statement: SQL): Promise<Row[]> {
  const result: unknown = await db.execute(statement);
  return Array.isArray(result) ? result : (result as { rows: Row[] }).rows;
}
