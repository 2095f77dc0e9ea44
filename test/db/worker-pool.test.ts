import { sql } from 'drizzle-orm';
import type { ReservedSql } from 'postgres';
import { describe, expect, onTestFinished, test } from 'vitest';
import { precompile } from '../../src/db/pipeline.ts';
import { queryRows } from '../../src/db/connection.ts';
import { kindOfSqlError } from '../../src/db/sql-errors.ts';
import { lockKnownCompanies } from '../../src/db/statements/companies.ts';
import { openWorkerPool } from '../../src/db/worker-pool.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany } from '../support/factories.ts';
import { holdLock, untilWaitingForLocks } from '../support/locks.ts';
import { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';

const database = useDatabase();

const registerCompany = precompile<'id'>(
  sql`insert into lessor.companies (id) values (${sql.placeholder('id')}::uuid)`,
);
const countCompanies = precompile(sql`select count(*)::int as companies from lessor.companies`);
const divide = precompile<'by'>(sql`select 6 / ${sql.placeholder('by')}::int as quotient`);
const endOwnSession = precompile(sql`select pg_terminate_backend(pg_backend_pid())`);

const ID = '00000000-0000-4000-8000-000000000001';

describe('a pipelined transaction', () => {
  test('gives the rows of each statement, which sees what those before it did', async () => {
    const [registered, counted, quotient] = await database.pool.pipeline([
      registerCompany({ id: '00000000-0000-4000-8000-00000000000a' }),
      countCompanies({}),
      divide({ by: '3' }),
    ]);
    expect([registered, counted, quotient]).toEqual([[], [{ companies: 1 }], [{ quotient: 2 }]]);
  });

  test('rolls back as a whole when one statement is rejected, with its error', async () => {
    const rejected = database.pool.pipeline([registerCompany({ id: ID }), divide({ by: '0' }), divide({ by: '2' })]);
    await expect(rejected).rejects.toThrow('division by zero');
    expect(await database.sql`select from lessor.companies where id = ${ID}`).toHaveLength(0);
  });

  test('can be repeated after one in which a statement was rejected while others were being prepared', async () => {
    const doubled = precompile<'number'>(sql`select 2 * ${sql.placeholder('number')}::int as doubled`);
    await expect(database.pool.pipeline([divide({ by: '0' }), doubled({ number: '1' })])).rejects.toThrow(
      'division by zero',
    );
    expect(await database.pool.pipeline([divide({ by: '1' }), doubled({ number: '2' })])).toEqual([
      [{ quotient: 6 }],
      [{ doubled: 4 }],
    ]);
  });

  test('shares prepared statements with transactions, also those of a pipeline that failed', async () => {
    const pool = openWorkerPool(database.url, { applicationName: 'test db', maximumConnections: 1 });
    onTestFinished(() => pool.close());
    const inTransaction = (by: string) =>
      pool.transaction((tx) => queryRows(tx, sql`select 6 / ${by}::int as quotient`));
    await expect(pool.pipeline([divide({ by: '0' })])).rejects.toThrow('division by zero');
    expect(await inTransaction('2')).toEqual([{ quotient: 3 }]);
    expect(await pool.pipeline([divide({ by: '3' })])).toEqual([[{ quotient: 2 }]]);
    const before = await pool.transaction((tx) => queryRows(tx, sql`select ${'1'}::int as one`));
    const one = precompile<'one'>(sql`select ${sql.placeholder('one')}::int as one`);
    expect(await pool.pipeline([one({ one: '1' }), one({ one: '2' })])).toEqual([before, [{ one: 2 }]]);
    const names = sql`select name from pg_prepared_statements where statement like 'select $1::int%'`;
    expect(await pool.transaction((tx) => queryRows(tx, names))).toHaveLength(1);
  });

  test('holds no lock while the network delays its answers', async () => {
    const proxy = await TcpProxy.inFrontOf(database.url);
    onTestFinished(() => proxy.close());
    const pool = openWorkerPool(proxy.urlFor(database.url), { applicationName: 'test db' });
    onTestFinished(() => pool.close());
    const companyId = await insertCompany(database.sql);
    const lockOfCompany = (connection: ReservedSql) =>
      connection`select from lessor.companies where id = ${companyId} for update nowait`;
    const unlock = await holdLock(database.sql, lockOfCompany);
    const answers = pool.pipeline([lockKnownCompanies([companyId]), registerCompany({ id: ID }), divide({ by: '3' })]);
    await untilWaitingForLocks(database, 1);

    proxy.hold();
    await unlock();
    const registered = () => database.sql`select from lessor.companies where id = ${ID}`;
    await until(async () => (await registered()).length === 1, { what: 'their commit' });
    await (
      await holdLock(database.sql, lockOfCompany)
    )();
    proxy.heal();
    expect(await answers).toEqual([[{ locked: companyId }], [], [{ quotient: 2 }]]);
  });

  test('is rejected when its connection is lost, and the next one is not', async () => {
    const lost = database.pool.pipeline([endOwnSession({}), countCompanies({})]);
    const error: unknown = await lost.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(kindOfSqlError(error)).toBe('unreachable');
    expect(await database.pool.pipeline([divide({ by: '6' })])).toEqual([[{ quotient: 1 }]]);
  });
});
