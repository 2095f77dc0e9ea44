import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { sweepLeases } from '../../../src/consumers/sweep/leases.ts';
import type { RunStarted } from '../../../src/contracts/index.ts';
import { useDatabase } from '../../support/database.ts';
import { insertLease, backdateExpiry, runFinished, runHeartbeat, runStarted } from '../../support/factories.ts';
import { operationsOn, readLease, renew, start, eventsOf } from '../../support/operations.ts';
import { useEnvironmentServiceOn } from '../service/service-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);
const environments = useEnvironmentServiceOn(database);

const sweep = () =>
  sweepLeases({
    db: database.db,
    actor: { type: 'system', id: 'sweep' },
    logger: pino({ level: 'silent' }),
    requestReleases: async () => undefined,
    batchSize: 100,
  });

const granted = async (overrides: Partial<RunStarted> = {}) => {
  const payload = runStarted({ ttlSeconds: 60, ...overrides });
  const lease = await operations.granted(payload);
  return { payload, lease, id: lease.id };
};

const expiryOf = async (id: string) => (await readLease(database.sql, id)).expires_at.getTime();

describe('a heartbeat', () => {
  test('extends the lease by its own ttl, or by the one that the lease was given', async () => {
    const { payload, id } = await granted();
    const before = await expiryOf(id);
    const outcome = await operations.renew(runHeartbeat(payload));
    const byItsTtl = await expiryOf(id);
    expect(byItsTtl).toBeGreaterThan(before);
    expect(byItsTtl - before).toBeLessThan(30_000);
    expect(outcome).toMatchObject({ result: { leases: [{ id, status: 'active' }] } });
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 600 }));
    expect((await expiryOf(id)) - before).toBeGreaterThanOrEqual(540_000);
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('never shortens the lease', async () => {
    const { payload, id } = await granted();
    const before = await expiryOf(id);
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 1 }));
    expect(await expiryOf(id)).toBe(before);
  });

  test.for(['succeeded', 'failed'] as const)('never revives the lease of a run that %s', async (status) => {
    const { payload, id } = await granted();
    await operations.finish(runFinished(payload, { status }));
    const before = await readLease(database.sql, id);
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 600 }));
    expect(await readLease(database.sql, id)).toEqual(before);
  });

  test('never extends a lease that is retained after its run', async () => {
    const { payload, id } = await granted({ leasePolicy: 'retain_on_failure' });
    await operations.finish(runFinished(payload, { status: 'failed' }));
    const before = await readLease(database.sql, id);
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 600 }));
    expect(await readLease(database.sql, id)).toEqual(before);
  });

  test('saves a lease that has expired and was not swept yet, and tells it once', async () => {
    const { payload, id } = await granted({ agentId: randomUUID() });
    await backdateExpiry(database.sql, id);
    await operations.renew(runHeartbeat(payload));
    expect(await expiryOf(id)).toBeGreaterThan(Date.now() + 30_000);
    await operations.renew(runHeartbeat(payload));
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired', 'lease_renewed']);
  });

  test("same-company: of another company's run is rejected, and renews nothing", async () => {
    const { payload, id } = await granted();
    const before = await expiryOf(id);
    const foreign = runHeartbeat({ ...payload, companyId: randomUUID() }, { ttlSeconds: 600 });
    expect(await operations.renew(foreign)).toMatchObject({ kind: 'rejected', rejection: { code: 'foreign_run' } });
    expect(await expiryOf(id)).toBe(before);
  });

  test('in one batch with others of its run is carried out as often as it was sent', async () => {
    const { payload, id } = await granted();
    const outcomes = await operations.apply([
      renew(runHeartbeat(payload)),
      renew(runHeartbeat(payload, { ttlSeconds: 600 })),
      renew(runHeartbeat(payload, { ttlSeconds: 1 })),
    ]);
    expect(outcomes.map((outcome) => outcome.kind)).toEqual(['done', 'done', 'done']);
    expect(await expiryOf(id)).toBeGreaterThan(Date.now() + 500_000);
  });
});

/** The run's lease has expired, and a sweep has expired it. */
const swept = async (overrides: Partial<RunStarted> = {}) => {
  const run = await granted(overrides);
  await backdateExpiry(database.sql, run.id);
  await sweep();
  expect(await readLease(database.sql, run.id)).toMatchObject({ status: 'expired' });
  return run;
};

const statusOf = async (id: string) => (await readLease(database.sql, id)).status;

describe('a heartbeat after the sweep', () => {
  test.for([
    ['without a workspace', {}],
    ['whose workspace is still free', { executionWorkspaceId: randomUUID() }],
  ] as const)('revives an expired lease %s, and tells it as renewed', async ([, overrides]) => {
    const { payload, id } = await swept(overrides);
    const outcome = await operations.renew(runHeartbeat(payload));
    expect(outcome).toMatchObject({ kind: 'done', result: { leases: [{ id, status: 'active' }] } });
    expect(await readLease(database.sql, id)).toMatchObject({
      status: 'active',
      failure_reason: null,
      cleanup_status: null,
      released_at: null,
    });
    expect(await expiryOf(id)).toBeGreaterThan(Date.now() + 30_000);
    expect(await eventsOf(database.sql, payload.companyId)).toEqual([
      'created',
      'lease_acquired',
      'lease_expired',
      'lease_renewed',
    ]);
    await operations.finish(runFinished(payload));
    expect(await statusOf(id)).toBe('released');
  });

  test('revives as often as the lease had expired, and each is told', async () => {
    const { payload, id } = await swept();
    await operations.renew(runHeartbeat(payload));
    await backdateExpiry(database.sql, id);
    await sweep();
    await operations.renew(runHeartbeat(payload));
    expect((await eventsOf(database.sql, payload.companyId)).slice(2)).toEqual([
      'lease_expired',
      'lease_renewed',
      'lease_expired',
      'lease_renewed',
    ]);
  });

  test('fenced: never revives a lease whose workspace was granted to another run since, though it is free again', async () => {
    const { payload, id } = await swept({ executionWorkspaceId: randomUUID() });
    const successor = runStarted({ ...payload, runId: randomUUID() });
    await operations.granted(successor);
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
    await operations.finish(runFinished(successor));
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
  });

  test('fenced: of two runs in one batch, the one that starts on the workspace wins over the one that comes back', async () => {
    const { payload, id } = await swept({ executionWorkspaceId: randomUUID() });
    const successor = runStarted({ ...payload, runId: randomUUID() });
    await operations.apply([renew(runHeartbeat(payload)), start(successor)]);
    expect(await statusOf(id)).toBe('expired');
  });

  test('one-lease: never revives a lease after which its run was given another one', async () => {
    const { payload, lease, id } = await swept();
    const { companyId, runId } = payload;
    const second = await insertLease(database.sql, { companyId, runId, environmentId: lease.environment.id });
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
    expect(await statusOf(second)).toBe('active');
  });

  test('never revives the lease of a run that has ended', async () => {
    const { payload, id } = await swept();
    await operations.finish(runFinished(payload));
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
  });

  test('never revives a lease that was retained before it expired', async () => {
    const { payload, id } = await granted();
    await environments.service.releaseLease(id, 'retained');
    await backdateExpiry(database.sql, id);
    await sweep();
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
  });

  test('never revives a lease on an environment that was archived since', async () => {
    const { payload, lease, id } = await swept();
    await database.sql`update lessor.environments set status = 'archived' where id = ${lease.environment.id}`;
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
  });

  test('never revives a lease whose driver has cleaned up outside Postgres', async () => {
    const { payload, id } = await swept();
    await database.sql`update lessor.environment_leases set provider = 'ssh' where id = ${id}`;
    await operations.renew(runHeartbeat(payload));
    expect(await statusOf(id)).toBe('expired');
  });
});
