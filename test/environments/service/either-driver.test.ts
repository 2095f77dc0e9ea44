import { randomUUID } from 'node:crypto';
import { drizzle } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { describe, expect, test } from 'vitest';
import { createDb } from '../../../src/db/connection.ts';
import type { Db } from '../../../src/db/connection.ts';
import { environmentService } from '../../../src/environments/service/index.ts';
import { useDatabase } from '../../support/database.ts';
import { SSH_CONFIG, backdateExpiry } from '../../support/factories.ts';
import { eventsOf } from '../../support/operations.ts';

const database = useDatabase({ audited: true });

const DRIVERS: Record<string, (url: string) => { db: Db; close: () => Promise<void> }> = {
  'node-postgres'(url) {
    const db = createDb(url, { applicationName: 'test db' });
    return { db, close: () => db.close() };
  },
  'postgres.js'(url) {
    const client = postgres(url, { max: 2, onnotice: () => undefined });
    return { db: drizzle(client), close: () => client.end({ timeout: 1 }) };
  },
};

describe.for(Object.entries(DRIVERS))('the service on a drizzle database over %s', ([, connect]) => {
  test('creates, finds, changes and archives environments', ({ onTestFinished }) => {
    return withService(connect, onTestFinished, async (db) => {
      const service = environmentService(db);
      const companyId = randomUUID();
      const local = await service.ensureLocalEnvironment(companyId);
      expect(local).toMatchObject({ companyId, name: 'Local', driver: 'local', createdAt: expect.any(Date) });
      const host = await service.create(companyId, { name: 'Host', driver: 'ssh', config: SSH_CONFIG });
      expect(await service.getById(host.id)).toEqual(host);
      expect(await service.update(host.id, { name: 'Other host' })).toMatchObject({ name: 'Other host' });
      expect(await service.archive(host.id)).toMatchObject({ status: 'archived', updatedAt: expect.any(Date) });
      expect(await service.list(companyId, { status: 'active' })).toEqual([local]);
      expect(await eventsOf(database.sql, companyId)).toEqual(['created', 'created', 'updated', 'archived']);
    });
  });

  test('acquires, checks, changes, lists and releases leases', ({ onTestFinished }) => {
    return withService(connect, onTestFinished, async (db) => {
      const service = environmentService(db);
      const companyId = randomUUID();
      const heartbeatRunId = randomUUID();
      const { id: environmentId } = await service.ensureLocalEnvironment(companyId);
      const expiresAt = new Date(Date.now() + 60_000);
      const request = { companyId, environmentId, heartbeatRunId, expiresAt, metadata: { text: `"'\\{}` } };
      const lease = await service.acquireLease(request);
      expect(lease).toMatchObject({ status: 'active', expiresAt, metadata: request.metadata });
      expect(await service.acquireLease(request)).toEqual(lease);
      await service.assertCurrent(lease.id, lease.fencingToken);
      expect(await service.updateLeaseMetadata(lease.id, null)).toMatchObject({ metadata: null });
      expect(await service.listActiveLeasesForRun(heartbeatRunId)).toMatchObject([{ id: lease.id }]);
      expect(await service.releaseLeasesForRun(heartbeatRunId)).toMatchObject([
        { id: lease.id, status: 'released', releasedAt: expect.any(Date) },
      ]);
      const next = await service.acquireLease({ companyId, environmentId });
      await backdateExpiry(database.sql, next.id);
      expect(await service.releaseLease(next.id, 'expired')).toMatchObject({ status: 'expired' });
      expect(await service.listLeases(environmentId)).toMatchObject([{ id: next.id }, { id: lease.id }]);
    });
  });

  test('waits for an execution workspace, whose expired holder it supersedes', ({ onTestFinished }) => {
    return withService(connect, onTestFinished, async (db) => {
      const service = environmentService(db);
      const companyId = randomUUID();
      const { id: environmentId } = await service.ensureLocalEnvironment(companyId);
      const request = { companyId, environmentId, executionWorkspaceId: randomUUID() };
      const held = await service.acquireLease({ ...request, heartbeatRunId: randomUUID() });
      const next = { ...request, heartbeatRunId: randomUUID() };
      await expect(service.acquireLease(next)).rejects.toMatchObject({ code: 'workspace_held' });
      await backdateExpiry(database.sql, held.id);
      expect(await service.acquireLease(next)).toMatchObject({ status: 'active' });
      expect(await service.getLeaseById(held.id)).toMatchObject({ status: 'expired' });
    });
  });

  test('commits and rolls back with the transaction that it is given', ({ onTestFinished }) => {
    return withService(connect, onTestFinished, async (db) => {
      const companyId = randomUUID();
      const rollback = new Error('rolled back');
      const attempt = db.transaction(async (tx) => {
        await environmentService(tx).ensureLocalEnvironment(companyId);
        throw rollback;
      });
      await expect(attempt).rejects.toBe(rollback);
      expect(await environmentService(db).list(companyId)).toEqual([]);
      await db.transaction((tx) => environmentService(tx).ensureLocalEnvironment(companyId));
      expect(await environmentService(db).list(companyId)).toHaveLength(1);
    });
  });
});

async function withService(
  connect: (url: string) => { db: Db; close: () => Promise<void> },
  onTestFinished: (close: () => Promise<void>) => void,
  work: (db: Db) => Promise<void>,
): Promise<void> {
  const { db, close } = connect(database.url);
  onTestFinished(close);
  await work(db);
}
