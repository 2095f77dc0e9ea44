import { randomUUID } from 'node:crypto';
import { drizzle as overNodePostgres } from 'drizzle-orm/node-postgres';
import { drizzle as overPostgresJs } from 'drizzle-orm/postgres-js';
import { pgTable, text } from 'drizzle-orm/pg-core';
import { Pool } from 'pg';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDb } from '../../src/db/connection.ts';
import type { CallerTransaction, Db } from '../../src/db/connection.ts';
import { environmentService } from '../../src/environments/service/index.ts';
import { createOutbox } from '../../src/outbox/outbox.ts';
import { useDatabase } from '../support/database.ts';
import { SSH_CONFIG } from '../support/factories.ts';

const database = useDatabase();

/** A table of a service's own, as its drizzle database knows it. */
const schema = { orders: pgTable('orders', { id: text('id').primaryKey() }) };

interface Opened {
  db: Db;
  transaction<Result>(work: (tx: CallerTransaction) => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

const OPENERS: Record<string, (url: string) => Opened> = {
  createDb(url) {
    const db = createDb(url);
    return { db, transaction: (work) => db.transaction(work), close: () => db.close() };
  },
  'a drizzle database over node-postgres'(url) {
    const pool = new Pool({ connectionString: url });
    const db = overNodePostgres(pool);
    const own = overNodePostgres(pool, { schema });
    return { db, transaction: (work) => own.transaction(work), close: () => pool.end() };
  },
  'a drizzle database over postgres.js'(url) {
    const client = postgres(url, { max: 4, onnotice: () => undefined });
    const db = overPostgresJs(client);
    const own = overPostgresJs(client, { schema });
    return { db, transaction: (work) => own.transaction(work), close: () => client.end() };
  },
};

describe.for(Object.entries(OPENERS))('over %s', ([, open]) => {
  let opened: Opened;
  beforeAll(() => {
    opened = open(database.url);
  });
  afterAll(() => opened.close());

  test('environmentService creates environments and grants, reads and ends leases', async () => {
    const service = environmentService(opened.db);
    const companyId = randomUUID();
    const local = await service.ensureLocalEnvironment(companyId);
    const host = await service.create(companyId, {
      name: 'Host',
      driver: 'ssh',
      config: SSH_CONFIG,
      metadata: { a: [1] },
    });
    expect(host).toMatchObject({ driver: 'ssh', config: SSH_CONFIG, metadata: { a: [1] } });
    expect(host.createdAt).toBeInstanceOf(Date);
    const heartbeatRunId = randomUUID();
    const lease = await service.acquireLease({ companyId, environmentId: local.id, heartbeatRunId });
    expect(lease).toMatchObject({ status: 'active', heartbeatRunId });
    expect(lease.expiresAt).toBeInstanceOf(Date);
    expect(lease.fencingToken).toBeTypeOf('number');
    await service.assertCurrent(lease.id, lease.fencingToken);
    await service.releaseLease(lease.id);
    expect(await service.getLeaseById(lease.id)).toMatchObject({ status: 'released', metadata: lease.metadata });
  });

  test('environmentService joins a transaction, which rolls it back', async () => {
    const companyId = randomUUID();
    const rollback = new Error('rolled back on purpose');
    const attempt = opened.db.transaction(async (tx) => {
      await environmentService(tx).ensureLocalEnvironment(companyId);
      throw rollback;
    });
    await expect(attempt).rejects.toBe(rollback);
    expect(await database.sql`select from lessor.environments where company_id = ${companyId}`).toHaveLength(0);
  });

  test('the outbox writes in a transaction over tables of the caller', async () => {
    const run = { companyId: randomUUID(), runId: randomUUID(), metadata: { nested: [1, 'two'] } };
    await opened.transaction((tx) => createOutbox().runStarted(tx, run));
    const rows = await database.sql`select payload from lessor.outbox where run_id = ${run.runId}`;
    expect(rows).toMatchObject([{ payload: run }]);
  });
});
