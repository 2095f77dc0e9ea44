import { basename } from 'node:path';
import postgres from 'postgres';
import { afterAll, afterEach, beforeAll, expect, inject } from 'vitest';
import { audit } from '../../testing/audit/invariants.ts';
import { createDb } from '../../src/db/connection.ts';
import type { DbPool } from '../../src/db/connection.ts';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import type { WorkerPool } from '../../src/db/worker-pool.ts';
import {
  cloneDatabase,
  dropDatabase,
  onDatabase,
  uniqueDatabaseName,
  urlOfDatabase,
} from '../../testing/stores/databases.ts';
import { until } from '../../testing/until.ts';

/** A migrated database of a test file. Available once the `beforeAll` hooks run. */
export interface TestDatabase {
  readonly url: string;
  /** As services use it. */
  readonly db: DbPool;
  /** As workers use it. */
  readonly pool: WorkerPool;
  /** To prepare and to read rows. Not the client of `db`: drizzle changes the date parsers of the client it gets. */
  readonly sql: postgres.Sql;
}

/** Options of {@link useDatabase}. */
export interface UseDatabaseOptions {
  /** Of `db`; default 10. */
  maximumConnections?: number;
  /** Fails the file when an invariant does not hold at its end. Default false. */
  audited?: boolean;
}

/** postgres.js waits this long whenever a connection of the pool was lost. */
const CLOSE_SECONDS = 1;

/** A server process may take this long to notice that its client has disconnected. */
const LEAK_GRACE_MS = 5_000;

/**
 * Gives the file, or the enclosing `describe`, a database of its own, cloned from the migrated template and dropped at the
 * end. Fails the file when a connection to it was left open. After a failed test the database is kept, where its server
 * outlives the run, and its name is printed.
 */
export function useDatabase({ maximumConnections, audited = false }: UseDatabaseOptions = {}): TestDatabase {
  const { postgres: server } = inject('stores');
  const name = uniqueDatabaseName(`test_${basename(expect.getState().testPath ?? 'file', '.test.ts')}`);
  const url = urlOfDatabase(server.url, name);
  let opened: { db: DbPool; pool: WorkerPool; sql: postgres.Sql } | undefined;

  beforeAll(async () => {
    await cloneDatabase(server.url, server.templateDatabase, name);
    const options = {
      applicationName: 'test db',
      ...(maximumConnections === undefined ? {} : { maximumConnections }),
    };
    opened = {
      db: createDb(url, options),
      pool: openWorkerPool(url, options),
      sql: postgres(url, { max: 4, connection: { application_name: 'test sql' }, onnotice: () => undefined }),
    };
  });

  let hasFailed = false;
  afterEach(({ task }) => {
    hasFailed ||= task.result?.state === 'fail';
  });

  afterAll(async () => {
    try {
      if (opened === undefined) return;
      const violations = audited ? await audit(opened.sql) : [];
      await Promise.all([
        opened.db.close(CLOSE_SECONDS),
        opened.pool.close(CLOSE_SECONDS),
        opened.sql.end({ timeout: CLOSE_SECONDS }),
      ]);
      await assertNoConnectionLeft(server.url, name);
      expect(violations, 'every invariant holds at the end of the file').toEqual([]);
    } finally {
      if (hasFailed && server.lasting) process.stderr.write(`a test failed; its database is kept: ${name}\n`);
      else await dropDatabase(server.url, name);
    }
  });

  const use = () => {
    if (opened === undefined) throw new Error('the database is available only within hooks and tests');
    return opened;
  };
  return {
    url,
    get db() {
      return use().db;
    },
    get pool() {
      return use().pool;
    },
    get sql() {
      return use().sql;
    },
  };
}

async function assertNoConnectionLeft(serverUrl: string, database: string): Promise<void> {
  await onDatabase(serverUrl, (sql) =>
    until(
      async () => {
        const left = await sql`
          select application_name, state, left(query, 200) as last_query from pg_stat_activity
          where datname = ${database} and backend_type = 'client backend'`;
        if (left.length > 0) throw new Error(`connections were left open: ${JSON.stringify(left)}`);
        return true;
      },
      { timeoutMs: LEAK_GRACE_MS, what: 'closing all connections to the database of the file' },
    ),
  );
}
