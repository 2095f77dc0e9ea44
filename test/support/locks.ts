import type { ReservedSql, Sql } from 'postgres';
import { onTestFinished } from 'vitest';
import type { TestDatabase } from './database.ts';
import { until } from '../../testing/until.ts';

/** Resolves once a number of connections of the code under test wait for a lock. */
export async function untilWaitingForLocks({ sql }: TestDatabase, connections: number): Promise<void> {
  const waiting = async () => {
    const blocked = await sql`
      select from pg_stat_activity
      where datname = current_database() and application_name = 'test db' and wait_event_type = 'Lock'`;
    return blocked.length === connections;
  };
  await until(waiting, { what: `${connections} connections waiting for a lock` });
}

/**
 * Makes attempts wait for the lock of a company, in the given order, and releases the lock once all of them wait.
 * @param beforeUnlock runs while they wait
 */
export async function behindLockOfCompany<T>(
  database: TestDatabase,
  companyId: string,
  attempts: readonly (() => Promise<T>)[],
  beforeUnlock: () => Promise<void> = async () => undefined,
): Promise<T[]> {
  const waiting: Promise<T>[] = [];
  await database.sql.begin(async (sql) => {
    await sql`select from lessor.companies where id = ${companyId} for update`;
    for (const attempt of attempts) {
      waiting.push(attempt());
      await untilWaitingForLocks(database, waiting.length);
    }
    await beforeUnlock();
  });
  return Promise.all(waiting);
}

/** Holds the locks of a statement until the returned function is called, or the test ends. */
export async function holdLock(
  sql: Sql,
  lock: (connection: ReservedSql) => Promise<unknown>,
): Promise<() => Promise<void>> {
  const connection = await sql.reserve();
  await connection`begin`;
  await lock(connection);
  let held = true;
  const release = async () => {
    if (!held) return;
    held = false;
    await connection`rollback`;
    connection.release();
  };
  onTestFinished(release);
  return release;
}
