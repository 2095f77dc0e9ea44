import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDb, openReadDb, queryRows } from '../../src/db/connection.ts';
import type { Db } from '../../src/db/connection.ts';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import { useDatabase } from '../support/database.ts';

const database = useDatabase();
const ROLE = `lessor_session_test_${process.pid}`;

/** What a role, or a database, may set and Lessor must not depend on. */
const HOSTILE = {
  TimeZone: 'Asia/Kathmandu',
  DateStyle: 'German, DMY',
  extra_float_digits: '-15',
  statement_timeout: '1ms',
  idle_in_transaction_session_timeout: '1ms',
};

beforeAll(async () => {
  await database.sql.unsafe(`create role ${ROLE} superuser login password 'secret'`);
  for (const [name, value] of Object.entries(HOSTILE))
    await database.sql.unsafe(`alter role ${ROLE} set ${name} = '${value}'`);
});

afterAll(() => database.sql.unsafe(`drop role ${ROLE}`));

function urlOfRole(): string {
  const url = new URL(database.url);
  url.username = ROLE;
  url.password = 'secret';
  return url.href;
}

type Owned = Db & { close(): Promise<void> };

describe.for<[how: string, open: (url: string) => Owned | Promise<Owned>, limits: [string, string]]>([
  ['createDb', (url) => createDb(url), ['1min', '1min']],
  [
    'createDb with limits',
    (url) => createDb(url, { statementTimeoutMs: 0, idleInTransactionTimeoutMs: 5_000 }),
    ['0', '5s'],
  ],
  ['a worker’s pool', (url) => openWorkerPool(url), ['15s', '10s']],
  ['a connection for reading', (url) => openReadDb(url, { applicationName: 'test db' }), ['1min', '1min']],
])('%s', ([, open, [statementTimeout, idleTimeout]]) => {
  test('formats values alike and limits statements, whatever the role sets', async () => {
    const db = await open(urlOfRole());
    try {
      const [row] = await queryRows(
        db,
        sql`select
          '2026-11-30 12:34:56.789+00'::timestamptz::text as instant,
          '2026-11-30'::date::text as day,
          (0.1::float8 + 0.2::float8)::text as float,
          current_setting('statement_timeout') as "statementTimeout",
          current_setting('idle_in_transaction_session_timeout') as "idleTimeout"`,
      );
      expect(row).toEqual({
        instant: '2026-11-30 12:34:56.789+00',
        day: '2026-11-30',
        float: '0.30000000000000004',
        statementTimeout,
        idleTimeout,
      });
    } finally {
      await db.close();
    }
  });
});
