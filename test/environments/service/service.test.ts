import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { InvalidPayloadError } from '../../../src/contracts/index.ts';
import { environmentService } from '../../../src/environments/service/index.ts';
import { SSH_CONFIG, insertCompany } from '../../support/factories.ts';
import { useEnvironmentService } from './service-fixture.ts';

const fixture = useEnvironmentService();
const { database, newCompany, newLease } = fixture;

/** Input that TypeScript would not let through. */
const loose = (value: unknown) => value as never;

describe('leases', () => {
  test('are listed newest first, by status', async () => {
    const { lease, request, local } = await newLease();
    const next = await fixture.service.acquireLease({ ...request, heartbeatRunId: randomUUID() });
    await fixture.service.releaseLease(lease.id);
    const idsOf = async (filters?: Parameters<typeof fixture.service.listLeases>[1]) =>
      (await fixture.service.listLeases(local.id, filters)).map(({ id }) => id);
    expect(await idsOf()).toEqual([next.id, lease.id]);
    expect(await idsOf({ status: 'active' })).toEqual([next.id]);
    expect(await idsOf({ status: 'failed' })).toEqual([]);
  });

  test('of a run are listed oldest first while they are live', async () => {
    const { lease, request, companyId, runId } = await newLease();
    const host = await fixture.service.create(companyId, { name: 'Host', driver: 'ssh', config: SSH_CONFIG });
    const second = await fixture.service.acquireLease({ ...request, environmentId: host.id });
    expect((await fixture.service.listActiveLeasesForRun(runId)).map(({ id }) => id)).toEqual([lease.id, second.id]);
    await fixture.service.releaseLease(lease.id);
    expect((await fixture.service.listActiveLeasesForRun(runId)).map(({ id }) => id)).toEqual([second.id]);
    expect(await fixture.service.listActiveLeasesForRun(randomUUID())).toEqual([]);
  });

  test('have their metadata replaced', async () => {
    const { lease } = await newLease();
    expect(await fixture.service.updateLeaseMetadata(lease.id, { a: 1 })).toMatchObject({ metadata: { a: 1 } });
    expect(await fixture.service.updateLeaseMetadata(lease.id, { b: 2 })).toMatchObject({ metadata: { b: 2 } });
    expect(await fixture.service.updateLeaseMetadata(lease.id, null)).toMatchObject({ metadata: null });
    expect(await fixture.service.updateLeaseMetadata(randomUUID(), null)).toBeNull();
    expect(await fixture.service.getLeaseById(randomUUID())).toBeNull();
  });
});

describe("within a caller's transaction", () => {
  test('everything commits or rolls back with it', async () => {
    const { lease } = await newLease();
    const companyId = randomUUID();
    const rollback = new Error('rolled back on purpose');
    const attempt = database.db.transaction(async (tx) => {
      const joined = environmentService(tx);
      const local = await joined.ensureLocalEnvironment(companyId);
      const host = await joined.create(companyId, { name: 'Host', driver: 'ssh', config: SSH_CONFIG });
      await joined.update(host.id, { name: 'Other' });
      await joined.archive(host.id);
      const own = await joined.acquireLease({ companyId, environmentId: local.id, heartbeatRunId: randomUUID() });
      await joined.updateLeaseMetadata(own.id, { a: 1 });
      await joined.releaseLeasesForRun(own.heartbeatRunId!);
      await joined.releaseLease(lease.id);
      expect(await joined.getLeaseById(lease.id)).toMatchObject({ status: 'released' });
      throw rollback;
    });
    await expect(attempt).rejects.toBe(rollback);
    const [left] = await database.sql`
      select (select count(*)::int from lessor.companies where id = ${companyId}) as companies,
        (select count(*)::int from lessor.environments where company_id = ${companyId}) as environments,
        (select count(*)::int from lessor.heartbeat_runs where company_id = ${companyId}) as runs,
        (select count(*)::int from lessor.activity_log where company_id = ${companyId}) as events`;
    expect(left).toEqual({ companies: 0, environments: 0, runs: 0, events: 0 });
    expect(await fixture.service.getLeaseById(lease.id)).toEqual(lease);
  });

  test('a rejection leaves the transaction usable', async () => {
    const { companyId, local } = await newCompany();
    const lease = await database.db.transaction(async (tx) => {
      const joined = environmentService(tx);
      const rejected = joined.acquireLease({ companyId, environmentId: randomUUID() });
      await expect(rejected).rejects.toMatchObject({ code: 'unknown_environment' });
      return joined.acquireLease({ companyId, environmentId: local.id });
    });
    expect(await fixture.service.getLeaseById(lease.id)).toMatchObject({ status: 'active' });
  });
});

describe('input that does not fit', () => {
  const id = randomUUID();

  const attempts: [what: string, attempt: () => Promise<unknown>][] = [
    ['list of no id', () => fixture.service.list('no id')],
    ['list by an unknown filter', () => fixture.service.list(id, loose({ name: 'x' }))],
    ['list by an unknown status', () => fixture.service.list(id, loose({ status: 'gone' }))],
    ['getById of no id', () => fixture.service.getById('no id')],
    ['create for no id', () => fixture.service.create('no id', { name: 'x', driver: 'ssh' })],
    ['create without a name', () => fixture.service.create(id, { name: '', driver: 'ssh' })],
    ['create with NUL in its name', () => fixture.service.create(id, { name: 'a\u0000', driver: 'ssh' })],
    ['create with a name too long', () => fixture.service.create(id, { name: 'x'.repeat(201), driver: 'ssh' })],
    ['create of an unknown driver', () => fixture.service.create(id, loose({ name: 'x', driver: 'fax' }))],
    ['create with an unknown field', () => fixture.service.create(id, loose({ name: 'x', driver: 'ssh', id }))],
    [
      'create with NUL deep in its config',
      () => fixture.service.create(id, { name: 'x', driver: 'ssh', config: { a: ['\u0000'] } }),
    ],
    ['update of no id', () => fixture.service.update('no id', {})],
    ['update of its driver', () => fixture.service.update(id, loose({ driver: 'ssh' }))],
    ['archive of no id', () => fixture.service.archive('no id')],
    ['ensureLocalEnvironment for no id', () => fixture.service.ensureLocalEnvironment('no id')],
    ['acquireLease without an environment', () => fixture.service.acquireLease(loose({ companyId: id }))],
    [
      'acquireLease until no date',
      () => fixture.service.acquireLease({ companyId: id, environmentId: id, expiresAt: new Date(Number.NaN) }),
    ],
    [
      'acquireLease with a status',
      () => fixture.service.acquireLease(loose({ companyId: id, environmentId: id, status: 'active' })),
    ],
    ['getLeaseById of no id', () => fixture.service.getLeaseById('no id')],
    ['listLeases of no id', () => fixture.service.listLeases('no id')],
    ['listLeases by an unknown status', () => fixture.service.listLeases(id, loose({ status: 'gone' }))],
    ['listActiveLeasesForRun of no id', () => fixture.service.listActiveLeasesForRun('no id')],
    ['updateLeaseMetadata with text', () => fixture.service.updateLeaseMetadata(id, loose('text'))],
    ['updateLeaseMetadata of no id', () => fixture.service.updateLeaseMetadata('no id', {})],
    ['releaseLease as active', () => fixture.service.releaseLease(id, loose('active'))],
    ['releaseLease with an empty reason', () => fixture.service.releaseLease(id, 'failed', { failureReason: '' })],
    ['releaseLeasesForRun of no id', () => fixture.service.releaseLeasesForRun('no id')],
    ['releaseLeasesForRun as pending', () => fixture.service.releaseLeasesForRun(id, loose('pending'))],
  ];

  test.for(attempts)('is rejected as such: %s', async ([, attempt]) => {
    await expect(attempt()).rejects.toBeInstanceOf(InvalidPayloadError);
  });

  test('registers no company', async () => {
    expect(await database.sql`select from lessor.companies where id = ${id}`).toHaveLength(0);
  });

  test('UUIDs in upper case are those in lower case', async () => {
    const companyId = await insertCompany(database.sql);
    const local = await fixture.service.ensureLocalEnvironment(companyId.toUpperCase());
    expect(local.companyId).toBe(companyId);
    expect(await fixture.service.getById(local.id.toUpperCase())).toEqual(local);
  });
});
