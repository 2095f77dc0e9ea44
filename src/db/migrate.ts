import { fileURLToPath } from 'node:url';
import { sql } from 'drizzle-orm';
import { readMigrationFiles } from 'drizzle-orm/migrator';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator';
import { SchemaOutdatedError } from '../contracts/index.ts';
import { queryRows } from './connection.ts';
import type { Db } from './connection.ts';
import { ConnectionPool } from './pool.ts';

const MIGRATIONS = {
  migrationsFolder: fileURLToPath(new URL('migrations', import.meta.url)),
  migrationsSchema: 'lessor',
  migrationsTable: 'migrations',
};

/** Any constant that no one else in the database uses: 'lessor' in ASCII. */
const MIGRATION_LOCK = 0x6c6573736f72;

/** A migration takes as long as it takes, and so does waiting for another process's. */
const NO_LIMITS = { statement_timeout: 0, lock_timeout: 0, idle_in_transaction_session_timeout: 0 };

/**
 * Brings the database's `lessor` schema up to this version. Any number of callers may race: an advisory lock lets
 * one migrate while the others wait, and those then find nothing to do.
 * @throws {InvalidConfigurationError} when the URL is not understood
 */
export async function migrate(url: string): Promise<void> {
  const connections = new ConnectionPool(url, {
    maximumConnections: 1,
    applicationName: 'lessor migrate',
    session: NO_LIMITS,
  });
  try {
    await connections.withConnection(async (client) => {
      await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
      await applyMigrations(drizzle(client), MIGRATIONS);
    });
  } finally {
    // Ending the only connection also releases the lock.
    await connections.close();
  }
}

/**
 * Rejects a database that this version cannot work with.
 * @throws {SchemaOutdatedError} when migrations are missing
 */
export async function assertMigrated(db: Db): Promise<void> {
  const [ledger] = await queryRows<{ exists: boolean }>(
    db,
    sql`select to_regclass('lessor.migrations') is not null as "exists"`,
  );
  if (!ledger?.exists) throw new SchemaOutdatedError('the database has no lessor schema yet');
  const [newest] = await queryRows<{ appliedMillis: string | null }>(
    db,
    sql`select max(created_at) as "appliedMillis" from lessor.migrations`,
  );
  const pending = readMigrationFiles(MIGRATIONS).filter(
    (migration) => migration.folderMillis > Number(newest?.appliedMillis ?? 0),
  );
  if (pending.length > 0) throw new SchemaOutdatedError(`the database lacks ${pending.length} migration(s)`);
}
