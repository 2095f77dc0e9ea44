import { randomBytes } from 'node:crypto';
import postgres from 'postgres';
import { migrate } from '../../src/db/migrate.ts';
import { migrateQueue } from '../../src/queues/backends/postgres.ts';

/** Held while a database is cloned: a constant that nothing else locks. */
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

/** Creates a migrated database to clone, and closes it to connections. Returns its name. */
export async function createTemplateDatabase(serverUrl: string): Promise<string> {
  const name = uniqueDatabaseName('template');
  await onDatabase(serverUrl, (sql) => sql.unsafe(`create database ${name}`));
  try {
    const url = urlOfDatabase(serverUrl, name);
    await migrate(url);
    await migrateQueue(url);
    await onDatabase(serverUrl, (sql) => sql.unsafe(`alter database ${name} allow_connections false`));
  } catch (error) {
    await dropDatabase(serverUrl, name);
    throw error;
  }
  return name;
}

/** Clones the template. Clones are made one at a time: Postgres rejects a template that is in use. */
export async function cloneDatabase(serverUrl: string, template: string, name: string): Promise<void> {
  await onDatabase(serverUrl, async (sql) => {
    await sql`select pg_advisory_lock(${CLONE_LOCK})`;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await sql.unsafe(`create database ${name} template ${template}`);
        return;
      } catch (error) {
        // Postgres waits five seconds before it reports this error, so the next attempt needs no pause.
        const isInUse = error instanceof postgres.PostgresError && error.code === OBJECT_IN_USE;
        if (!isInUse || attempt === CLONE_TRIES) throw error;
      }
    }
  });
}

/** Creates an empty database, for tests of the migrations. */
export async function createEmptyDatabase(serverUrl: string, name: string): Promise<void> {
  await onDatabase(serverUrl, (sql) => sql.unsafe(`create database ${name} template template0`));
}

/** Drops a database and disconnects whoever is connected to it. */
export async function dropDatabase(serverUrl: string, name: string): Promise<void> {
  await onDatabase(serverUrl, (sql) => sql.unsafe(`drop database if exists ${name} with (force)`));
}

/** Runs statements on one connection, and closes it, which also releases its advisory locks. */
export async function onDatabase<Result>(url: string, work: (sql: postgres.Sql) => Promise<Result>): Promise<Result> {
  const sql = postgres(url, {
    max: 1,
    connection: { application_name: 'lessor-testing' },
    onnotice: () => undefined,
  });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}
