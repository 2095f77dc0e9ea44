import { randomBytes } from 'node:crypto';
import postgres from 'postgres';
import { migrate } from '../../src/db/migrate.ts';
import { migrateQueue } from '../../src/queues/migrate-queue.ts';

/** Held while a database is cloned: any constant that nothing else locks. */
const CLONE_LOCK = 0x7465737473;

/** `source database is being accessed by other users` */
const OBJECT_IN_USE = '55006';

const CLONE_TRIES = 5;

/** The URL of another database on the same server. */
export function urlOfDatabase(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}

/** A name for a database that no other run uses. */
export function uniqueDatabaseName(purpose: string): string {
  const slug = purpose.toLowerCase().replaceAll(/[^a-z0-9]+/g, '_');
  return `lessor_${slug.slice(0, 40)}_${randomBytes(5).toString('hex')}`;
}

/** Makes the migrated database that each test file clones, and closes it to connections. Returns its name. */
export async function createTemplateDatabase(serverUrl: string): Promise<string> {
  const name = uniqueDatabaseName('template');
  await onServer(serverUrl, (sql) => sql.unsafe(`create database ${name}`));
  try {
    const url = urlOfDatabase(serverUrl, name);
    await migrate(url);
    await migrateQueue(url);
    await onServer(serverUrl, (sql) => sql.unsafe(`alter database ${name} allow_connections false`));
  } catch (error) {
    await dropDatabase(serverUrl, name);
    throw error;
  }
  return name;
}

/** Clones the template. Clones are made one after the other, as Postgres refuses a template that is in use. */
export async function cloneDatabase(serverUrl: string, template: string, name: string): Promise<void> {
  await onServer(serverUrl, async (sql) => {
    await sql`select pg_advisory_lock(${CLONE_LOCK})`;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await sql.unsafe(`create database ${name} template ${template}`);
        return;
      } catch (error) {
        // Postgres has waited five seconds before it says so: trying again at once is not in haste.
        const isInUse = error instanceof postgres.PostgresError && error.code === OBJECT_IN_USE;
        if (!isInUse || attempt === CLONE_TRIES) throw error;
      }
    }
  });
}

/** Makes an empty database, for what tests migrating itself. */
export async function createEmptyDatabase(serverUrl: string, name: string): Promise<void> {
  await onServer(serverUrl, (sql) => sql.unsafe(`create database ${name} template template0`));
}

/** Drops a database whoever is connected to it. */
export async function dropDatabase(serverUrl: string, name: string): Promise<void> {
  await onServer(serverUrl, (sql) => sql.unsafe(`drop database if exists ${name} with (force)`));
}

/** Runs statements on the server's own database. Ending the connection also gives its advisory locks back. */
export async function onServer<T>(serverUrl: string, run: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(serverUrl, {
    max: 1,
    connection: { application_name: 'lessor-test-support' },
    onnotice: () => undefined,
  });
  try {
    return await run(sql);
  } finally {
    await sql.end();
  }
}
