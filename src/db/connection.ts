import { drizzle } from 'drizzle-orm/postgres-js';
import type { SQL } from 'drizzle-orm';
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core';
import postgres from 'postgres';

/** A connection pool to Lessor's database, or a transaction that the caller has open on one, of any driver. */
export type Db = PgDatabase<PgQueryResultHKT>;

/** An open transaction. What must be atomic asks for one, so that it cannot be run outside. */
export type Transaction = Parameters<Parameters<Db['transaction']>[0]>[0];

/**
 * An open transaction of a service, over tables of its own: all that Lessor asks of it. A {@link Db} that is none cannot
 * be rolled back, and is refused by the compiler.
 */
export type CallerTransaction = Pick<Transaction, 'execute' | 'rollback'>;

/** A {@link Db} that owns its connections. */
export interface DbPool extends Db {
  /** Ends all connections, after the queries that are under way, at most `timeoutSeconds` later (default 2). */
  close(timeoutSeconds?: number): Promise<void>;
}

/** How to connect. */
export interface DbOptions {
  /** Most connections at once; default 10. */
  maximumConnections?: number;
  /** Name that `pg_stat_activity` shows; default `lessor`. */
  applicationName?: string;
}

const CONNECT_TIMEOUT_SECONDS = 10;
const CLOSE_TIMEOUT_SECONDS = 2;

/**
 * Connects to Lessor's database. Connections are opened when first needed.
 * @param url `postgres://user:password@host:port/database`
 */
export function createDb(url: string, options: DbOptions = {}): DbPool {
  const client = postgres(url, {
    max: options.maximumConnections ?? 10,
    connect_timeout: CONNECT_TIMEOUT_SECONDS,
    connection: { application_name: options.applicationName ?? 'lessor' },
    onnotice: () => undefined,
  });
  const close = (timeoutSeconds = CLOSE_TIMEOUT_SECONDS) => client.end({ timeout: timeoutSeconds });
  return Object.assign(drizzle(client), { close });
}

/** Runs a statement and returns its rows, in which shape the driver may have them. */
export async function queryRows<Row>(db: Db, statement: SQL): Promise<Row[]> {
  const result: unknown = await db.execute(statement);
  return Array.isArray(result) ? result : (result as { rows: Row[] }).rows;
}
