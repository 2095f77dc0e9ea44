import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { sql as template } from 'drizzle-orm';
import getPort from 'get-port';
import { Pool } from 'pg';
import postgres from 'postgres';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createDb } from '../../src/db/connection.ts';
import { kindOfSqlError, sqlErrorOf } from '../../src/db/sql-errors.ts';
import { companies } from '../../src/db/schema.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany } from '../support/factories.ts';
import { urlOfDatabase } from '../../testing/stores/databases.ts';

const database = useDatabase();

/** What an attempt rejects with. */
async function errorOf(attempt: PromiseLike<unknown>): Promise<unknown> {
  try {
    await attempt;
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('an error', () => {
  test('of a row that is there already is a rejection, through drizzle or not', async () => {
    const id = await insertCompany(database.sql);
    const plain = await errorOf(database.sql`insert into lessor.companies (id) values (${id})`);
    const wrapped = await errorOf(database.db.insert(companies).values({ id }));
    expect(wrapped).not.toBeInstanceOf(postgres.PostgresError);
    for (const error of [plain, wrapped]) {
      expect(kindOfSqlError(error)).toBe('rejected');
      expect(sqlErrorOf(error)).toMatchObject({ code: '23505' });
    }
  });

  test("never shows parameter values that drizzle's message has", async () => {
    const id = await insertCompany(database.sql);
    const wrapped = await errorOf(database.db.insert(companies).values({ id, name: 'a secret' }));
    expect(String(wrapped)).toContain('a secret');
    expect(sqlErrorOf(wrapped)?.message).not.toContain('a secret');
  });

  test.for([
    ['22P02', `select 'x'::uuid`],
    ['22P05', `select '"\\u0000"'::jsonb ->> 0`],
    ['23514', `insert into lessor.companies (status) values ('no such word')`],
    ['23503', `insert into lessor.environments (company_id, name, driver) values (gen_random_uuid(), 'x', 'ssh')`],
  ])('%s is a rejection', async ([code, statement]) => {
    const error = await errorOf(database.db.execute(template.raw(statement!)));
    expect(sqlErrorOf(error)?.code).toBe(code);
    expect(kindOfSqlError(error)).toBe('rejected');
  });

  test('of a lock that is not given in time is transient', async () => {
    const id = await insertCompany(database.sql);
    await database.sql.begin(async (holder) => {
      await holder`select from lessor.companies where id = ${id} for update`;
      const waiting = database.db.transaction(async (tx) => {
        await tx.execute(template`set local lock_timeout = '10ms'`);
        await tx.execute(template`select from lessor.companies where id = ${id} for update`);
      });
      const error = await errorOf(waiting);
      expect(sqlErrorOf(error)?.code).toBe('55P03');
      expect(kindOfSqlError(error)).toBe('transient');
    });
  });

  test('of two transactions that wait for each other is transient', async () => {
    const [one, two] = [await insertCompany(database.sql), await insertCompany(database.sql)];
    const gate = new EventEmitter();
    const firstHasArrived = once(gate, 'arrived');
    const lockBoth = (first: string, second: string, meet: () => unknown) =>
      database.db.transaction(async (tx) => {
        await tx.execute(template`set local deadlock_timeout = '10ms'`);
        await tx.execute(template`select from lessor.companies where id = ${first} for update`);
        await meet();
        await tx.execute(template`select from lessor.companies where id = ${second} for update`);
      });
    const outcomes = await Promise.allSettled([
      lockBoth(one, two, () => firstHasArrived),
      lockBoth(two, one, () => gate.emit('arrived')),
    ]);
    const [loser] = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(sqlErrorOf(loser?.reason)?.code).toBe('40P01');
    expect(kindOfSqlError(loser?.reason)).toBe('transient');
  });

  test('of a statement that takes too long is transient', async () => {
    const slow = database.db.transaction(async (tx) => {
      await tx.execute(template`set local statement_timeout = '10ms'`);
      await tx.execute(template`select pg_sleep(10)`);
    });
    expect(kindOfSqlError(await errorOf(slow))).toBe('transient');
  });

  test.for([
    ['a missing table', '42P01', 'select from lessor.no_such_table'],
    ['a missing schema', '42P01', 'select from no_such_schema.table'],
    ['a missing column', '42703', 'select no_such_column from lessor.companies'],
  ])('of %s means that the store cannot be used, whatever the operation', async ([, code, statement]) => {
    const error = await errorOf(database.db.execute(template.raw(statement!)));
    expect(sqlErrorOf(error)?.code).toBe(code);
    expect(kindOfSqlError(error)).toBe('unreachable');
  });

  test('of a read-only server means the same', async () => {
    const write = database.db.transaction((tx) => tx.insert(companies).values({ id: randomUUID() }), {
      accessMode: 'read only',
    });
    expect(kindOfSqlError(await errorOf(write))).toBe('unreachable');
  });

  test('of a port where nobody listens means the same', async () => {
    const port = await getPort();
    for (const host of ['127.0.0.1', 'localhost']) {
      const db = createDb(`postgres://nobody@${host}:${port}/none`);
      onTestFinished(() => db.close());
      const error = await errorOf(db.execute(template`select 1`));
      expect(sqlErrorOf(error)?.code).toBe('ECONNREFUSED');
      expect(kindOfSqlError(error)).toBe('unreachable');
    }
  });

  test('of a database that is not there means the same', async () => {
    const db = createDb(urlOfDatabase(database.url, `none_${randomUUID()}`));
    onTestFinished(() => db.close());
    const error = await errorOf(db.execute(template`select 1`));
    expect(sqlErrorOf(error)?.code).toBe('3D000');
    expect(kindOfSqlError(error)).toBe('unreachable');
  });

  test('of a connection that an administrator ended means the same', async () => {
    const db = createDb(database.url, { maximumConnections: 1 });
    onTestFinished(() => db.close(0));
    const suicide = db.execute(template`select pg_terminate_backend(pg_backend_pid())`);
    expect(kindOfSqlError(await errorOf(suicide))).toBe('unreachable');
  });

  test('of a connection on which no answer comes means the same', async () => {
    const pool = new Pool({ connectionString: database.url, query_timeout: 10 });
    onTestFinished(() => pool.end());
    expect(kindOfSqlError(await errorOf(pool.query('select pg_sleep(1)')))).toBe('unreachable');
  });

  test('of a pool that was closed means the same', async () => {
    const db = createDb(database.url);
    await db.close();
    expect(kindOfSqlError(await errorOf(db.execute(template`select 1`)))).toBe('unreachable');
  });

  test.for([
    ['an error without a code', new Error('fault')],
    ['a code that is no SQLSTATE', Object.assign(new Error('fault'), { code: 'ERR_INVALID_ARG_TYPE' })],
    ['a code of five letters that is none of Postgres', Object.assign(new Error('fault'), { code: 'EBUSY' })],
    ['no error', 'text'],
    ['nothing', undefined],
  ] as const)('that is not of Postgres is of no kind: %s', ([, error]) => {
    expect(kindOfSqlError(error)).toBeUndefined();
  });
});
