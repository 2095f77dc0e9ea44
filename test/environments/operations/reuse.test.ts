import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { GrantedLease } from '../../../src/contracts/index.ts';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished } from '../../support/factories.ts';
import { readLease, start } from '../../support/operations.ts';
import { driverOperationsOn } from './driver-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = driverOperationsOn(database);

type Remote = Awaited<ReturnType<typeof operations.remote>>;

/** A run that has ended, and whose lease was kept for the next one of its scope. */
async function retained({ run }: Remote, overrides: Parameters<Remote['run']>[0]): Promise<GrantedLease> {
  const started = run(overrides);
  const lease = await operations.active(started);
  await operations.finish(runFinished(started));
  expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'retained' });
  return lease;
}

describe('reuse_by_environment', () => {
  const leasePolicy = 'reuse_by_environment';

  test('the next run takes over what the driver acquired, and the lease before it is released, told once', async () => {
    const remote = await operations.remote();
    const before = await retained(remote, { leasePolicy });
    const lease = await operations.active(remote.run({ leasePolicy }));
    expect(lease).toMatchObject({ providerLeaseId: before.providerLeaseId, status: 'active' });
    expect(await readLease(database.sql, before.id)).toMatchObject({ status: 'released', cleanup_status: 'success' });
    expect(await remote.told()).toEqual(['lease_acquired', 'lease_retained', 'lease_released', 'lease_acquired']);
  });

  test('is adopted by one of two runs that start at once', async () => {
    const remote = await operations.remote();
    const before = await retained(remote, { leasePolicy });
    const outcomes = await operations.apply([start(remote.run({ leasePolicy })), start(remote.run({ leasePolicy }))]);
    const places = outcomes.map((outcome) => outcome.kind === 'acquiring' && outcome.lease.providerLeaseId);
    expect(places).toEqual(expect.arrayContaining([before.providerLeaseId, null]));
  });

  test('is not adopted by a run of another policy, nor once its time is over', async () => {
    const remote = await operations.remote();
    const before = await retained(remote, { leasePolicy });
    expect((await operations.pending(remote.run())).providerLeaseId).toBeNull();
    await backdateExpiry(database.sql, before.id);
    expect((await operations.pending(remote.run({ leasePolicy }))).providerLeaseId).toBeNull();
    // The audit wants no expired lease to be left.
    await backdateExpiry(database.sql, before.id, -60);
  });

  test('is not cleaned up after once it is adopted, though a second acquirer of it reports late', async () => {
    const remote = await operations.remote();
    const before = await retained(remote, { leasePolicy });
    const lease = await operations.active(remote.run({ leasePolicy }));
    await operations.driver.acquired(before, before.providerLeaseId!);
    expect(await readLease(database.sql, before.id)).toMatchObject({ status: 'released', cleanup_status: 'success' });
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'active' });
  });

  test('same-company: is not adopted by a run of another company, nor on another environment', async () => {
    const [mine, theirs] = [await operations.remote(), await operations.remote()];
    await retained(mine, { leasePolicy });
    expect((await operations.pending(theirs.run({ leasePolicy }))).providerLeaseId).toBeNull();
  });

  test('what a failed run leaves is cleaned up, not reused', async () => {
    const { run } = await operations.remote();
    const started = run({ leasePolicy });
    const lease = await operations.active(started);
    await operations.finish(runFinished(started, { status: 'failed' }));
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'pending_cleanup',
      ending_status: 'failed',
    });
  });
});

describe('reuse_by_execution_workspace', () => {
  const leasePolicy = 'reuse_by_execution_workspace';

  test('is adopted by the next run of the same workspace alone', async () => {
    const remote = await operations.remote();
    const executionWorkspaceId = randomUUID();
    const before = await retained(remote, { leasePolicy, executionWorkspaceId });
    const other = remote.run({ leasePolicy, executionWorkspaceId: randomUUID() });
    expect((await operations.pending(other)).providerLeaseId).toBeNull();
    const next = await operations.pending(remote.run({ leasePolicy, executionWorkspaceId }));
    expect(next.providerLeaseId).toBe(before.providerLeaseId);
  });
});
