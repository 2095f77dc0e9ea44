import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { environmentService } from '../../../src/environments/service/index.ts';
import { directoryDriver } from '../../support/directory-driver.ts';
import { SSH_CONFIG } from '../../support/factories.ts';
import { eventsOf } from '../../support/operations.ts';
import { useEnvironmentService } from './service-fixture.ts';

const fixture = useEnvironmentService();
const { database, newCompany, newLease } = fixture;

describe('environments', () => {
  test('ensureLocalEnvironment makes the Local once, tells it once, and registers the company', async () => {
    const companyId = randomUUID();
    const made = await Promise.all(Array.from({ length: 10 }, () => fixture.service.ensureLocalEnvironment(companyId)));
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    expect(made[0]).toMatchObject({ companyId, name: 'Local', driver: 'local', status: 'active', config: {} });
    expect(made[0]?.createdAt).toBeInstanceOf(Date);
    const events = await database.sql`select * from lessor.activity_log where company_id = ${companyId}`;
    expect(events).toMatchObject([
      { action: 'environment.created', entity_id: made[0]?.id, actor_type: 'user', actor_id: 'operator' },
    ]);
  });

  test('one-local: an archived or renamed Local is returned as it is', async () => {
    const { companyId, local } = await newCompany();
    const renamed = await fixture.service.update(local.id, { name: 'Office', status: 'archived' });
    expect(await fixture.service.ensureLocalEnvironment(companyId)).toEqual(renamed);
  });

  test('create makes an environment and tells it', async () => {
    const companyId = randomUUID();
    const input = {
      name: 'Host',
      description: 'a host',
      driver: 'ssh',
      config: SSH_CONFIG,
      metadata: { a: 1 },
    } as const;
    const created = await fixture.service.create(companyId, input);
    expect(created).toMatchObject({ companyId, status: 'active', ...input });
    expect(await fixture.service.getById(created.id)).toEqual(created);
    expect(await eventsOf(database.sql, companyId)).toEqual(['created']);
  });

  test('create stores the config that its driver reads, with its defaults, and rejects one that it could not work with', async () => {
    const companyId = randomUUID();
    const { port, workspaceMode, ...config } = SSH_CONFIG;
    const created = await fixture.service.create(companyId, { name: 'Host', driver: 'ssh', config });
    expect(created.config).toEqual({ ...config, port, workspaceMode });

    const pasted = { ...SSH_CONFIG, privateKey: '-----BEGIN OPENSSH PRIVATE KEY-----' };
    const rejected = fixture.service.create(companyId, { name: 'Host', driver: 'ssh', config: pasted });
    await expect(rejected).rejects.toMatchObject({
      code: 'invalid_payload',
      message: expect.stringMatching(/^config of an environment of the kind ssh .*at privateKey$/s),
    });
    await expect(rejected).rejects.not.toMatchObject({ message: expect.stringContaining('BEGIN') });
    await expect(fixture.service.update(created.id, { config: { host: 'other' } })).rejects.toMatchObject({
      code: 'invalid_payload',
    });
    expect(await eventsOf(database.sql, companyId)).toEqual(['created']);
  });

  test('create checks the config by a driver of the service’s own', async () => {
    const service = environmentService(database.db, { drivers: [directoryDriver] });
    const sandbox = (config: object) =>
      service.create(randomUUID(), { name: 'box', driver: 'sandbox', config: { ...config } });
    await expect(sandbox({ root: 'relative' })).rejects.toMatchObject({ code: 'invalid_payload' });
    expect(await sandbox({ root: '/srv' })).toMatchObject({ config: { root: '/srv' } });
  });

  test('one-local: create rejects a second Local, whoever wins the race', async () => {
    const companyId = randomUUID();
    const attempts = [1, 2, 3, 4].map(() => fixture.service.create(companyId, { name: 'Local', driver: 'local' }));
    const outcomes = await Promise.allSettled(attempts);
    const losers = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(losers.map(({ reason }) => reason)).toMatchObject(
      Array.from({ length: 3 }, () => ({ name: 'RejectedError', code: 'not_storable' })),
    );
    expect(await eventsOf(database.sql, companyId)).toEqual(['created']);
  });

  test("list gives a company's own, oldest first, by status and driver", async () => {
    const { companyId, local } = await newCompany();
    const one = await fixture.service.create(companyId, { name: 'one', driver: 'ssh', config: SSH_CONFIG });
    const two = await fixture.service.create(companyId, { name: 'two', driver: 'ssh', config: SSH_CONFIG });
    await fixture.service.archive(one.id);
    const idsOf = async (filters?: Parameters<typeof fixture.service.list>[1]) =>
      (await fixture.service.list(companyId, filters)).map(({ id }) => id);
    expect(await idsOf()).toEqual([local.id, one.id, two.id]);
    expect(await idsOf({ driver: 'ssh' })).toEqual([one.id, two.id]);
    expect(await idsOf({ driver: 'ssh', status: 'active' })).toEqual([two.id]);
    expect(await idsOf({ status: 'archived' })).toEqual([one.id]);
    expect(await fixture.service.list(randomUUID())).toEqual([]);
  });

  test('update changes what it is given, and tells which fields', async () => {
    const { local, told } = await newCompany();
    const updated = await fixture.service.update(local.id, {
      name: 'Office',
      config: { b: { c: 2 }, a: 1 },
      description: null,
    });
    expect(updated).toMatchObject({ id: local.id, name: 'Office', config: { a: 1, b: { c: 2 } }, description: null });
    expect(updated!.updatedAt.getTime()).toBeGreaterThanOrEqual(local.updatedAt.getTime());
    expect(await told()).toEqual(['updated']);
    const [event] = await database.sql`
      select details from lessor.activity_log where entity_id = ${local.id} and action = 'environment.updated'`;
    expect(event?.['details']).toMatchObject({ changed: ['name', 'description', 'config'] });
  });

  test('update with what stands already changes nothing and tells nothing', async () => {
    const { local, told } = await newCompany();
    const changes = { name: 'Office', config: { b: { c: 2 }, a: 1 }, metadata: { list: [1, { x: null }] } };
    const updated = await fixture.service.update(local.id, changes);
    const reordered = { ...changes, config: { a: 1, b: { c: 2 } } };
    for (const same of [changes, reordered, {}, { status: 'active' as const }]) {
      expect(await fixture.service.update(local.id, same)).toEqual(updated);
    }
    expect(await told()).toEqual(['updated']);
  });

  test('archive tells it once, lets leases run their course, and an update can undo it', async () => {
    const { local, lease, told, request } = await newLease();
    expect(await fixture.service.archive(local.id)).toMatchObject({ status: 'archived' });
    await fixture.service.archive(local.id);
    await fixture.service.update(local.id, { status: 'archived' });
    expect(await told()).toEqual(['lease_acquired', 'archived']);
    expect(await fixture.service.getLeaseById(lease.id)).toMatchObject({ status: 'active' });
    const next = { ...request, heartbeatRunId: randomUUID() };
    await expect(fixture.service.acquireLease(next)).rejects.toMatchObject({ code: 'environment_archived' });
    await fixture.service.update(local.id, { status: 'active' });
    expect(await fixture.service.acquireLease(next)).toMatchObject({ status: 'active' });
    expect(await told()).toEqual(['lease_acquired', 'archived', 'updated', 'lease_acquired']);
  });

  test('that do not exist are null, to read, update or archive', async () => {
    expect(await fixture.service.getById(randomUUID())).toBeNull();
    expect(await fixture.service.update(randomUUID(), { name: 'x' })).toBeNull();
    expect(await fixture.service.archive(randomUUID())).toBeNull();
  });
});
