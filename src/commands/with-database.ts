import { createDb, openReadDb } from '../db/connection.ts';
import type { Db } from '../db/connection.ts';
import { assertMigrated } from '../db/migrate.ts';
import { checkedDatabaseUrl } from './settings.ts';

/**
 * Runs work on the database that `--database-url` names, over one connection that is closed after it.
 * @throws {InvalidConfigurationError} when the URL is missing or wrong
 * @throws {SchemaOutdatedError} when the database lacks migrations
 */
export async function withDatabase<Result>(
  databaseUrl: string | undefined,
  work: (db: Db) => Promise<Result>,
): Promise<Result> {
  const db = createDb(checkedDatabaseUrl(databaseUrl), { maximumConnections: 1 });
  try {
    await assertMigrated(db);
    return await work(db);
  } finally {
    await db.close();
  }
}

/** As {@link withDatabase}, for work that only reads and runs no transaction. */
export async function withReadDatabase<Result>(
  databaseUrl: string | undefined,
  work: (db: Db) => Promise<Result>,
): Promise<Result> {
  const db = await openReadDb(checkedDatabaseUrl(databaseUrl), { applicationName: 'lessor' });
  try {
    await assertMigrated(db);
    return await work(db);
  } finally {
    await db.close();
  }
}
