import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { SSH_CONFIG, backdateExpiry, runFinished, runStarted } from '../../support/factories.ts';
import { operationsOn } from '../../support/operations.ts';
import { useEnvironmentService } from './service-fixture.ts';

const fixture = useEnvironmentService();
const { database, newLease } = fixture;

const operations = operationsOn(database);

describe('releaseLease', () => {
  test.for([
    ['released', 'success', null],
    ['failed', 'success', 'ended as failed by its service, which gave no reason'],
    ['retained', 'pending', null],
  ] as const)('ends a lease as %s, explained and told', async ([status, cleanupStatus, failureReason]) => {
    const { lease, told } = await newLease();
    const ended = await fixture.service.releaseLease(lease.id, status);
    expect(ended).toMatchObject({ id: lease.id, status, cleanupStatus, failureReason });
    expect(ended.releasedAt === null).toBe(status === 'retained');
    expect(await told()).toEqual(['lease_acquired', `lease_${status}`]);
  });

  test('takes the reason and the cleanup status of its caller', async () => {
    const { lease } = await newLease();
    const details = { failureReason: 'disk full', cleanupStatus: 'failed' } as const;
    expect(await fixture.service.releaseLease(lease.id, 'failed', details)).toMatchObject(details);
  });

  test('first-end-wins: of an ended lease changes nothing and tells nothing, whatever is asked', async () => {
    const { lease, told } = await newLease();
    const ended = await fixture.service.releaseLease(lease.id);
    for (const status of ['released', 'failed', 'expired', 'retained'] as const) {
      expect(await fixture.service.releaseLease(lease.id, status)).toEqual(ended);
    }
    expect(await told()).toEqual(['lease_acquired', 'lease_released']);
  });

  test('ten times at once tells it once', async () => {
    const { lease, told } = await newLease();
    const ended = await Promise.all(Array.from({ length: 10 }, () => fixture.service.releaseLease(lease.id)));
    expect(new Set(ended.map(({ status }) => status))).toEqual(new Set(['released']));
    expect(await told()).toEqual(['lease_acquired', 'lease_released']);
  });

  test('says expired only of a lease that has expired', async () => {
    const { lease } = await newLease();
    await expect(fixture.service.releaseLease(lease.id, 'expired')).rejects.toMatchObject({
      name: 'InvalidTransitionError',
      code: 'invalid_transition',
    });
    expect(await fixture.service.getLeaseById(lease.id)).toEqual(lease);
    await backdateExpiry(database.sql, lease.id);
    expect(await fixture.service.releaseLease(lease.id, 'expired')).toMatchObject({
      status: 'expired',
      failureReason: 'not renewed before it expired',
      cleanupStatus: 'success',
    });
  });

  test('releases a retained lease, but retains it only once', async () => {
    const { lease, told } = await newLease();
    await fixture.service.releaseLease(lease.id, 'retained', { failureReason: 'to look at' });
    await expect(fixture.service.releaseLease(lease.id, 'retained')).rejects.toMatchObject({
      code: 'invalid_transition',
    });
    expect(await fixture.service.releaseLease(lease.id)).toMatchObject({
      status: 'released',
      failureReason: 'to look at',
    });
    expect(await told()).toEqual(['lease_acquired', 'lease_retained', 'lease_released']);
  });

  test('of an unknown lease is rejected', async () => {
    await expect(fixture.service.releaseLease(randomUUID())).rejects.toMatchObject({
      name: 'UnknownLeaseError',
      code: 'unknown_lease',
    });
  });

  test("and the run's end racing end the lease once", async () => {
    const { lease, companyId, runId, told } = await newLease();
    await Promise.all([
      fixture.service.releaseLease(lease.id),
      operations.finish(runFinished({ companyId, runId }, { status: 'failed' })),
    ]);
    expect(await told()).toHaveLength(2);
  });
});

/** A live lease on a host. */
const newHostLease = async () => {
  const { request, companyId, told } = await newLease();
  const host = await fixture.service.create(companyId, { name: 'Host', driver: 'ssh', config: SSH_CONFIG });
  return { companyId, told, lease: await fixture.service.acquireLease({ ...request, environmentId: host.id }) };
};

describe('releaseLease of a lease that a driver acquired', () => {
  test('leaves its cleanup to workers, and tells nothing before it ends', async () => {
    const { lease, told } = await newHostLease();
    const released = await fixture.service.releaseLease(lease.id);
    expect(released).toMatchObject({
      status: 'pending_cleanup',
      cleanupStatus: 'pending',
      endingStatus: 'released',
      releasedAt: null,
    });
    expect(await fixture.service.releaseLease(lease.id)).toEqual(released);
    expect(await told()).not.toContain('lease_released');
  });

  test('ends it where the service says itself how its cleanup went', async () => {
    const { lease, told } = await newHostLease();
    await fixture.service.releaseLease(lease.id);
    const details = { cleanupStatus: 'success' } as const;
    const released = await fixture.service.releaseLease(lease.id, 'released', details);
    expect(released).toMatchObject({ status: 'released', cleanupStatus: 'success' });
    expect(await told()).toContain('lease_released');
  });
});

test('a lease that a driver has not acquired yet can be released, and not retained', async () => {
  const { companyId, lease } = await newHostLease();
  const payload = runStarted({ companyId, environment: { issue: lease.environmentId } });
  const started = await operations.start(payload);
  if (started.kind !== 'acquiring') throw new Error(`no driver is asked: ${JSON.stringify(started)}`);
  const { id } = started.lease;
  await expect(fixture.service.releaseLease(id, 'retained')).rejects.toMatchObject({ code: 'invalid_transition' });
  expect(await fixture.service.releaseLease(id)).toMatchObject({ status: 'pending_cleanup', endingStatus: 'released' });
});

describe('releaseLeasesForRun', () => {
  test('ends all live leases of the run and returns those', async () => {
    const { lease, request, companyId, runId, told } = await newLease();
    const host = await fixture.service.create(companyId, { name: 'Host', driver: 'ssh', config: SSH_CONFIG });
    const second = await fixture.service.acquireLease({ ...request, environmentId: host.id, provider: 'own' });
    const other = await fixture.service.acquireLease({ ...request, heartbeatRunId: randomUUID() });
    const ended = await fixture.service.releaseLeasesForRun(runId);
    expect(ended).toMatchObject([
      { id: lease.id, status: 'released' },
      { id: second.id, status: 'released' },
    ]);
    expect(await fixture.service.releaseLeasesForRun(runId)).toEqual([]);
    expect(await fixture.service.getLeaseById(other.id)).toEqual(other);
    expect((await told()).filter((action) => action === 'lease_released')).toHaveLength(2);
  });

  test('ends none when one may not be ended so', async () => {
    const { lease, runId } = await newLease();
    await expect(fixture.service.releaseLeasesForRun(runId, 'expired')).rejects.toMatchObject({
      code: 'invalid_transition',
    });
    expect(await fixture.service.getLeaseById(lease.id)).toEqual(lease);
  });

  test('of a run that nobody knows ends nothing', async () => {
    expect(await fixture.service.releaseLeasesForRun(randomUUID(), 'failed')).toEqual([]);
  });
});
