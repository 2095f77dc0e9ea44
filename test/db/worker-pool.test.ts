import { sql } from 'drizzle-orm';
import type { ReservedSql } from 'postgres';
import { describe, expect, onTestFinished, test } from 'vitest';
import { precompile } from '../../src/db/pipeline.ts';
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

describe('statements that are sent in one go', () => {
  test('give the rows of each, and see what those before them did', async () => {
    const [registered, counted, quotient] = await database.pool.pipeline([
      registerCompany({ id: '00000000-0000-4000-8000-00000000000a' }),
      countCompanies({}),
      divide({ by: '3' }),
    ]);
    expect([registered, counted, quotient]).toEqual([[], [{ companies: 1 }], [{ quotient: 2 }]]);
  });

  test('are one transaction: one that is refused undoes those before it, and is what is told', async () => {
    const refused = database.pool.pipeline([registerCompany({ id: ID }), divide({ by: '0' }), divide({ by: '2' })]);
    await expect(refused).rejects.toThrow('division by zero');
    expect(await database.sql`select from lessor.companies where id = ${ID}`).toHaveLength(0);
  });

  test('can be carried out again where one of them was refused when it was prepared', async () => {
    const doubled = precompile<'number'>(sql`select 2 * ${sql.placeholder('number')}::int as doubled`);
    await expect(database.pool.pipeline([divide({ by: '0' }), doubled({ number: '1' })])).rejects.toThrow(
      'division by zero',
    );
    expect(await database.pool.pipeline([divide({ by: '1' }), doubled({ number: '2' })])).toEqual([
      [{ quotient: 6 }],
      [{ doubled: 4 }],
    ]);
  });

  test('hold no lock while the network keeps their answers', async () => {
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

  test('are rejected when their connection is lost, which the next ones are not', async () => {
    const lost = database.pool.pipeline([endOwnSession({}), countCompanies({})]);
    const error: unknown = await lost.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(kindOfSqlError(error)).toBe('unreachable');
    expect(await database.pool.pipeline([divide({ by: '6' })])).toEqual([[{ quotient: 1 }]]);
  });
});
