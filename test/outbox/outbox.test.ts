import { randomBytes, randomUUID } from 'node:crypto';
import { drizzle as nodePostgres } from 'drizzle-orm/node-postgres';
import { pgTable, uuid } from 'drizzle-orm/pg-core';
import { drizzle as postgresJs } from 'drizzle-orm/postgres-js';
import { sql as statement } from 'drizzle-orm';
import { Client } from 'pg';
import postgres from 'postgres';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { InvalidPayloadError } from '../../src/contracts/index.ts';
import type { CallerTransaction } from '../../src/db/connection.ts';
import { createOutbox } from '../../src/outbox/outbox.ts';
import type { Outbox } from '../../src/outbox/outbox.ts';
import { useDatabase } from '../support/database.ts';
import { jobsInOutbox, newRun } from './fixture.ts';

const database = useDatabase();
const outbox = createOutbox();

/** A table of the service's own. */
const agentRuns = pgTable('agent_runs', { id: uuid('id').primaryKey() });
const schema = { agentRuns };

beforeAll(() => database.sql`create table agent_runs (id uuid primary key)`);

const rowsOf = (runId: string) => database.sql`select * from lessor.outbox where run_id = ${runId} order by id`;
const agentRunsOf = (runId: string) => database.sql`select from agent_runs where id = ${runId}`;

describe('an outbox', () => {
  test('writes the same job that a producer would publish', async () => {
    const run = { ...newRun(), ttlSeconds: 60, metadata: { purpose: 'test', nested: [{ a: 1 }] } };
    const clocked = createOutbox({ now: () => new Date('2026-01-02T03:04:05Z') });
    const published = await database.db.transaction(async (tx) => [
      await clocked.runStarted(tx, run),
      await clocked.runFinished(tx, { companyId: run.companyId, runId: run.runId, status: 'failed' }),
    ]);
    expect(published).toEqual([{ jobId: `${run.runId}-started` }, { jobId: `${run.runId}-finished` }]);
    expect(await rowsOf(run.runId)).toMatchObject([
      {
        queue: 'run-started',
        job_id: `${run.runId}-started`,
        payload: { version: 1, ...run, startedAt: '2026-01-02T03:04:05.000Z' },
      },
      {
        queue: 'run-finished',
        job_id: `${run.runId}-finished`,
        payload: { version: 1, runId: run.runId, status: 'failed', finishedAt: '2026-01-02T03:04:05.000Z' },
      },
    ]);
  });

  test.for<[what: string, write: (outbox: Outbox, tx: CallerTransaction) => Promise<unknown>]>([
    ['a run id that is none', (box, tx) => box.runStarted(tx, { ...newRun(), runId: 'one' })],
    ['metadata that Postgres cannot store', (box, tx) => box.runStarted(tx, { ...newRun(), metadata: { a: '\0' } })],
    ['a status that ends nothing', (box, tx) => box.runFinished(tx, { ...newRun(), status: 'running' as 'failed' })],
  ])('rejects %s before anything is written, and the transaction goes on', async ([, write]) => {
    const before = await jobsInOutbox(database);
    const run = newRun();
    await database.db.transaction(async (tx) => {
      await expect(write(outbox, tx)).rejects.toBeInstanceOf(InvalidPayloadError);
      await outbox.runStarted(tx, run);
    });
    expect(await jobsInOutbox(database)).toEqual([...before, `${run.runId}-started`]);
  });

  test('leaves nothing of a transaction or savepoint that is rolled back', async () => {
    const [whole, part, kept] = [newRun(), newRun(), newRun()];
    const rollback = new Error('rolled back on purpose');
    const rolledBack = database.db.transaction(async (tx) => {
      await outbox.runStarted(tx, whole);
      throw rollback;
    });
    await expect(rolledBack).rejects.toBe(rollback);
    await database.db.transaction(async (tx) => {
      await outbox.runStarted(tx, kept);
      const savepoint = tx.transaction(async (inner) => {
        await outbox.runStarted(inner, part);
        throw rollback;
      });
      await expect(savepoint).rejects.toBe(rollback);
    });
    const counts = await Promise.all([whole, part, kept].map(async ({ runId }) => (await rowsOf(runId)).length));
    expect(counts).toEqual([0, 0, 1]);
  });

  test('writes in a transaction over tables of the service’s own, through postgres.js', async () => {
    const client = postgres(database.url, { max: 1 });
    onTestFinished(() => client.end());
    const run = newRun();
    await postgresJs(client, { schema }).transaction(async (tx) => {
      await tx.insert(agentRuns).values({ id: run.runId });
      await outbox.runStarted(tx, run);
    });
    expect(await rowsOf(run.runId)).toHaveLength(1);
    expect(await agentRunsOf(run.runId)).toHaveLength(1);
  });

  test('writes in a transaction over tables of the service’s own, through node-postgres', async () => {
    const client = new Client({ connectionString: database.url });
    await client.connect();
    onTestFinished(() => client.end());
    const run = newRun();
    await nodePostgres(client, { schema }).transaction(async (tx) => {
      await tx.insert(agentRuns).values({ id: run.runId });
      await outbox.runStarted(tx, run);
    });
    expect(await rowsOf(run.runId)).toHaveLength(1);
    expect(await agentRunsOf(run.runId)).toHaveLength(1);
  });

  test('requires only the INSERT privilege of the service’s role', async () => {
    const role = `lessor_test_${randomBytes(5).toString('hex')}`;
    await database.sql.unsafe(`
      create role ${role}; grant usage on schema lessor to ${role}; grant insert on lessor.outbox to ${role}`);
    onTestFinished(async () => {
      await database.sql.unsafe(`drop owned by ${role}; drop role ${role}`);
    });
    const runId = randomUUID();
    await database.db.transaction(async (tx) => {
      await tx.execute(statement.raw(`set local role ${role}`));
      await outbox.runStarted(tx, { ...newRun(), runId });
    });
    expect(await rowsOf(runId)).toHaveLength(1);
  });
});
