import { createDb, openReadDb } from '../db/connection.ts';
import type { Db, DbPool } from '../db/connection.ts';
import { assertMigrated } from '../db/migrate.ts';

type Work<Result> = (db: Db) => Promise<Result>;

/**
 * Calls `work` with a database of one connection, which is closed after it.
 * @throws {SchemaOutdatedError} when the database lacks migrations
 */
export async function withDatabase<Result>(databaseUrl: string, work: Work<Result>): Promise<Result> {
  return withOpen(createDb(databaseUrl, { maximumConnections: 1 }), work);
}

/** As {@link withDatabase}, for work that only reads and runs no transaction. */
export async function withReadDatabase<Result>(databaseUrl: string, work: Work<Result>): Promise<Result> {
  return withOpen(await openReadDb(databaseUrl, { applicationName: 'lessor' }), work);
}

async function withOpen<Result>(db: DbPool, work: Work<Result>): Promise<Result> {
  try {
    await assertMigrated(db);
    return await work(db);
  } finally {
    await db.close();
  }
}
