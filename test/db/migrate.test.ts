import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as applyMigrations } from 'drizzle-orm/postgres-js/migrator';
import { getTableConfig, isPgSequence, PgTable } from 'drizzle-orm/pg-core';
import postgres from 'postgres';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { createDb } from '../../src/db/connection.ts';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import { assertMigrated, migrate } from '../../src/db/migrate.ts';
import * as schema from '../../src/db/schema.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun, runStarted } from '../support/factories.ts';
import { operationsOn } from '../support/operations.ts';
import {
  createEmptyDatabase,
  dropDatabase,
  uniqueDatabaseName,
  urlOfDatabase,
} from '../../testing/stores/databases.ts';

const MIGRATIONS = fileURLToPath(new URL('../../src/db/migrations', import.meta.url));

describe('migrate', () => {
  test('makes every table, column, index and sequence of the schema, from empty', async () => {
    const { url, sql } = await emptyDatabase();
    await migrate(url);
    for (const table of Object.values(schema).filter((entity) => entity instanceof PgTable)) {
      const { name, columns, indexes, checks, foreignKeys } = getTableConfig(table);
      const made = await sql<{ kind: string; name: string }[]>`
        select 'column' as kind, column_name as name from information_schema.columns
          where table_schema = 'lessor' and table_name = ${name}
        union all select 'index', indexname from pg_indexes where schemaname = 'lessor' and tablename = ${name}
        union all select 'constraint', conname from pg_constraint where conrelid = ${`lessor.${name}`}::regclass`;
      const namesOf = (kind: string) => made.filter((entity) => entity.kind === kind).map((entity) => entity.name);
      expect(namesOf('column').toSorted()).toEqual(columns.map((column) => column.name).toSorted());
      expect(namesOf('index')).toEqual(expect.arrayContaining(indexes.map((index) => index.config.name)));
      const constraints = [...checks.map((check) => check.name), ...foreignKeys.map((key) => key.getName())];
      expect(namesOf('constraint')).toEqual(expect.arrayContaining(constraints));
    }
    const sequences = Object.values(schema).filter((entity) => isPgSequence(entity));
    const found = await sql<{ name: string }[]>`
      select sequencename as name from pg_sequences where schemaname = 'lessor'`;
    expect(found.map(({ name }) => name)).toEqual(expect.arrayContaining(sequences.map(({ seqName }) => seqName)));
  });

  test('lets four racing migrators all succeed, and migrates once', async () => {
    const { url, sql } = await emptyDatabase();
    await Promise.all([1, 2, 3, 4].map(() => migrate(url)));
    const [ledger] = await sql`select count(*)::int as entries, count(distinct hash)::int as migrations
      from lessor.migrations`;
    expect(ledger?.['entries']).toBeGreaterThan(0);
    expect(ledger?.['entries']).toBe(ledger?.['migrations']);
  });

  test('again is nothing, and keeps what is there', async () => {
    const { url, sql } = await emptyDatabase();
    await migrate(url);
    await sql`insert into lessor.companies default values`;
    const before = await sql`select * from lessor.migrations order by id`;
    await migrate(url);
    expect([...(await sql`select * from lessor.migrations order by id`)]).toEqual([...before]);
    expect(await sql`select from lessor.companies`).toHaveLength(1);
  });

  test('brings a database of the previous version up to date, and keeps what is there', async () => {
    const { url, sql, db } = await emptyDatabase();
    await migrateToPreviousVersion(url);
    await expect(assertMigrated(db)).rejects.toMatchObject({ code: 'schema_outdated' });
    const companyId = await insertCompany(sql);
    const environmentId = await insertEnvironment(sql, { companyId });
    const runId = await insertRun(sql, { companyId });
    const executionWorkspaceId = randomUUID();
    await insertLease(sql, { companyId, environmentId, runId, executionWorkspaceId });
    const tables = ['companies', 'environments', 'heartbeat_runs', 'environment_leases', 'activity_log'];
    const rowsOf = () => Promise.all(tables.map((table) => sql.unsafe(`select * from lessor.${table}`)));
    const before = await rowsOf();

    await migrate(url);
    expect(await rowsOf()).toMatchObject(before);
    await expect(assertMigrated(db)).resolves.toBeUndefined();
    const waiter = runStarted({ companyId, executionWorkspaceId });
    const pool = openWorkerPool(url);
    onTestFinished(() => pool.close());
    expect(await operationsOn({ pool }).start(waiter)).toMatchObject({ kind: 'waiting', heldBy: { runId } });
  });

  test('gives its lock back when it fails', async () => {
    const { url, sql } = await emptyDatabase();
    await sql`create schema lessor`;
    await sql`create table lessor.companies (wrong int)`;
    await expect(migrate(url)).rejects.toThrow('Failed query');
    await sql`drop schema lessor cascade`;
    await migrate(url);
    expect(await sql`select from lessor.companies`).toHaveLength(0);
  });

  test('is generated from the schema as it stands', async () => {
    const drizzleKit = fileURLToPath(new URL('../../node_modules/drizzle-kit/bin.cjs', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [drizzleKit, 'check']);
    expect(stdout).toContain("Everything's fine");
  });
});

describe('assertMigrated', () => {
  test('accepts a migrated database', async () => {
    const { url, db } = await emptyDatabase();
    await migrate(url);
    await expect(assertMigrated(db)).resolves.toBeUndefined();
  });

  test('rejects an empty database, and says what to do', async () => {
    const { db } = await emptyDatabase();
    await expect(assertMigrated(db)).rejects.toMatchObject({
      code: 'schema_outdated',
      message: expect.stringContaining('lessor migrate'),
    });
  });

  test('rejects a database that lacks a migration', async () => {
    const { url, db, sql } = await emptyDatabase();
    await migrate(url);
    await sql`delete from lessor.migrations where id = (select max(id) from lessor.migrations)`;
    await expect(assertMigrated(db)).rejects.toMatchObject({
      code: 'schema_outdated',
      message: expect.stringContaining('lacks 1 migration'),
    });
  });
});

/** Applies all migrations but the newest, as the release before did. */
async function migrateToPreviousVersion(url: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'lessor-migrations-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(MIGRATIONS, folder, { recursive: true });
  const journalFile = join(folder, 'meta/_journal.json');
  const journal = JSON.parse(await readFile(journalFile, 'utf8')) as { entries: unknown[] };
  await writeFile(journalFile, JSON.stringify({ ...journal, entries: journal.entries.slice(0, -1) }));
  const client = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    const ledger = { migrationsSchema: 'lessor', migrationsTable: 'migrations' };
    await applyMigrations(drizzle(client), { migrationsFolder: folder, ...ledger });
  } finally {
    await client.end();
  }
}

/** A database without anything in it, until the test ends. */
async function emptyDatabase() {
  const { postgres: server } = inject('stores');
  const name = uniqueDatabaseName('test_migrate');
  await createEmptyDatabase(server.url, name);
  onTestFinished(() => dropDatabase(server.url, name));
  const url = urlOfDatabase(server.url, name);
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  onTestFinished(() => sql.end());
  const db = createDb(url);
  onTestFinished(() => db.close());
  return { url, sql, db };
}
