import { randomUUID } from 'node:crypto';
import { sql } from 'drizzle-orm';
import { pino } from 'pino';
import postgres from 'postgres';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import {
  createEmptyDatabase,
  dropDatabase,
  uniqueDatabaseName,
  urlOfDatabase,
} from '../../testing/stores/databases.ts';
import { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';
import { createWorker } from '../../src/consumers/worker.ts';
import { createDb } from '../../src/db/connection.ts';
import type { DbPool } from '../../src/db/connection.ts';
import { migrate } from '../../src/db/migrate.ts';
import { kindOfSqlError } from '../../src/db/sql-errors.ts';
import { environmentService } from '../../src/environments/service/index.ts';
import { createOutbox } from '../../src/outbox/outbox.ts';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany } from '../support/factories.ts';
import { holdLock } from '../support/locks.ts';

// An error that no promise rejects with would end the process: vitest fails the run for it.

const database = useDatabase();

/** A database as services use it, whose connections the test cuts. */
async function openThroughProxy(): Promise<{ db: DbPool; proxy: TcpProxy }> {
  const proxy = await TcpProxy.inFrontOf(database.url);
  onTestFinished(() => proxy.close());
  const db = createDb(proxy.urlFor(database.url), { applicationName: 'test cut' });
  onTestFinished(() => db.close());
  return { db, proxy };
}

async function errorOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

const lockCompany = (companyId: string) =>
  holdLock(database.sql, (connection) => connection`select from lessor.companies where id = ${companyId} for update`);

/** Ends the sessions of an application that wait for a lock, as soon as there is one. */
async function endWaitingSession(client: postgres.Sql, applicationName: string): Promise<void> {
  const ended = async () => {
    const sessions = await client`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name like ${applicationName} and wait_event_type = 'Lock'`;
    return sessions.length > 0;
  };
  await until(ended, { what: `a session of ${applicationName} waiting for a lock` });
}

describe('a connection that is cut in the middle of a transaction rejects it, and the process goes on', () => {
  test.for<[when: string, cutDuring: (cut: () => void) => Promise<unknown>]>([
    ['between two statements', async (cut) => cut()],
    [
      'between two statements, and it is noticed before the next one',
      async (cut) => {
        cut();
        await new Promise((resolve) => setTimeout(resolve, 100));
      },
    ],
  ])('of createDb, %s', async ([, cutDuring]) => {
    const { db, proxy } = await openThroughProxy();
    const companyId = randomUUID();
    const insert = sql`insert into lessor.companies (id) values (${companyId})`;
    const error = await errorOf(
      db.transaction(async (tx) => {
        await tx.execute(insert);
        await cutDuring(() => proxy.cut());
        await tx.execute(sql`select 1`);
      }),
    );
    expect(kindOfSqlError(error)).toBe('unreachable');
    proxy.heal();
    expect(await database.sql`select from lessor.companies where id = ${companyId}`).toHaveLength(0);
    await db.transaction((tx) => tx.execute(insert));
    expect(await database.sql`select from lessor.companies where id = ${companyId}`).toHaveLength(1);
  });

  test('of createDb, during a statement', async () => {
    const { db, proxy } = await openThroughProxy();
    const error = await errorOf(
      db.transaction(async (tx) => {
        const answer = errorOf(Promise.resolve(tx.execute(sql`select pg_sleep(2)`)));
        await until(() => isSleeping(), { what: 'the statement' });
        proxy.cut();
        throw await answer;
      }),
    );
    expect(kindOfSqlError(error)).toBe('unreachable');
  });

  test('of environmentService', async () => {
    const { db } = await openThroughProxy();
    const service = environmentService(db);
    const companyId = await insertCompany(database.sql);
    const unlock = await lockCompany(companyId);
    const attempt = errorOf(service.ensureLocalEnvironment(companyId));
    await endWaitingSession(database.sql, 'test cut');
    expect(kindOfSqlError(await attempt)).toBe('unreachable');
    await unlock();
    expect(await service.ensureLocalEnvironment(companyId)).toMatchObject({ companyId });
  });

  test('of a service that writes into the outbox, and nothing is written', async () => {
    const { db, proxy } = await openThroughProxy();
    const outbox = createOutbox();
    const run = { companyId: randomUUID(), runId: randomUUID() };
    const error = await errorOf(
      db.transaction(async (tx) => {
        await outbox.runStarted(tx, run);
        proxy.cut();
      }),
    );
    expect(kindOfSqlError(error)).toBe('unreachable');
    expect(await database.sql`select from lessor.outbox where run_id = ${run.runId}`).toHaveLength(0);
    proxy.heal();
    await db.transaction((tx) => outbox.runStarted(tx, run));
    expect(await database.sql`select from lessor.outbox where run_id = ${run.runId}`).toHaveLength(1);
  });

  test('of migrate, which then can be repeated', async () => {
    const { postgres: server } = inject('stores');
    const name = uniqueDatabaseName('cut_migration');
    await createEmptyDatabase(server.url, name);
    onTestFinished(() => dropDatabase(server.url, name));
    const url = urlOfDatabase(server.url, name);
    const client = postgres(url, { max: 4, onnotice: () => undefined });
    onTestFinished(() => client.end());
    await client`create schema lessor`;
    await client`create table lessor.migrations (id serial primary key, hash text not null, created_at bigint)`;
    // The ledger can be read and not be written: the first migration waits in its transaction.
    const unlock = await holdLock(client, (connection) => connection`lock table lessor.migrations in share mode`);
    const attempt = errorOf(migrate(url));
    await endWaitingSession(client, 'lessor migrate');
    expect(kindOfSqlError(await attempt)).toBe('unreachable');
    await unlock();
    await migrate(url);
    expect(await client`select from lessor.companies`).toHaveLength(0);
  });

  test('of a worker, which then grants the lease', async () => {
    const { url } = database;
    const worker = createWorker({ databaseUrl: url, queueUrl: url, logger: pino({ level: 'silent' }) });
    onTestFinished(() => worker.close());
    await worker.start();
    const producer = createHeartbeatProducer({ queueUrl: url });
    onTestFinished(() => producer.close());
    const companyId = await insertCompany(database.sql);
    const unlock = await lockCompany(companyId);
    const run = { companyId, runId: randomUUID() };
    await producer.runStarted(run);
    await endWaitingSession(database.sql, 'lessor worker%');
    await unlock();
    expect(await producer.waitForLease(run.runId, { timeoutMs: 30_000 })).toMatchObject({ runId: run.runId });
  });
});

async function isSleeping(): Promise<boolean> {
  const sessions = await database.sql`
    select from pg_stat_activity
    where datname = current_database() and application_name = 'test cut' and wait_event = 'PgSleep'`;
  return sessions.length > 0;
}
