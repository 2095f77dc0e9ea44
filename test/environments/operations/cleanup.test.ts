import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { LeaseRelease, LeaseStatus } from '../../../src/contracts/index.ts';
import { useDatabase } from '../../support/database.ts';
import { insertCompany, insertEnvironment, insertLease } from '../../support/factories.ts';
import type { LeaseRow } from '../../support/factories.ts';
import { operationsOn, readLease, release, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

/** A company with a lease that waits for its cleanup, and the message that says so. */
async function waitingLease(lease: Partial<LeaseRow> = {}) {
  const { sql } = database;
  const companyId = await insertCompany(sql);
  const environmentId = await insertEnvironment(sql, { companyId });
  const row = { companyId, environmentId, status: 'pending_cleanup', cleanupStatus: 'pending', ...lease } as const;
  const leaseId = await insertLease(sql, row);
  return { companyId, leaseId, payload: releaseOf(companyId, leaseId) };
}

const releaseOf = (companyId: string, leaseId: string): LeaseRelease => ({ version: 1, companyId, leaseId });

test.for([
  ['released', null],
  ['failed', 'disk full'],
] as const)('a lease that waits for its cleanup is %s with the reason %s, told once', async ([status, reason]) => {
  const { companyId, leaseId, payload } = await waitingLease({ failureReason: reason });
  expect(await operations.release(payload)).toEqual({ kind: 'done', result: { leaseId, status } });
  const lease = await readLease(database.sql, leaseId);
  expect(lease).toMatchObject({ status, failure_reason: reason, cleanup_status: 'success' });
  expect(lease.released_at).not.toBeNull();

  expect(await operations.release(payload)).toEqual({ kind: 'done', result: { leaseId, status } });
  expect(await readLease(database.sql, leaseId)).toEqual(lease);
  expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', `lease_${status}`]);
});

test('a release delivered twice in one batch ends the lease once', async () => {
  const { companyId, leaseId, payload } = await waitingLease();
  const outcomes = await operations.apply([release(payload), release({ ...payload })]);
  const done = { kind: 'done', result: { leaseId, status: 'released' } };
  expect(outcomes).toEqual([done, done]);
  expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', 'lease_released']);
});

test.for([
  { status: 'active' },
  { status: 'pending' },
  { status: 'retained', cleanupStatus: 'pending', failureReason: 'to look at' },
  { status: 'failed', cleanupStatus: 'failed', failureReason: 'host gone' },
  { status: 'expired', cleanupStatus: 'pending', failureReason: 'not renewed' },
] satisfies (Partial<LeaseRow> & { status: LeaseStatus })[])(
  'a lease that is $status is left as it is',
  async (row) => {
    const { leaseId, payload } = await waitingLease({ cleanupStatus: null, ...row, runId: null });
    const before = await readLease(database.sql, leaseId);
    expect(await operations.release(payload)).toEqual({ kind: 'done', result: { leaseId, status: row.status } });
    expect(await readLease(database.sql, leaseId)).toEqual(before);
    // The audit wants to hear of what is retained or ended, which this row came as.
    await database.sql`delete from lessor.environment_leases where id = ${leaseId}`;
    await database.sql`delete from lessor.activity_log where entity_id = ${leaseId}`;
  },
);

test('an unknown lease is rejected', async () => {
  const { companyId } = await waitingLease();
  const leaseId = randomUUID();
  expect(await operations.release(releaseOf(companyId, leaseId))).toEqual({
    kind: 'rejected',
    rejection: { code: 'unknown_lease', reason: `company ${companyId} has no lease ${leaseId}` },
  });
});

test("same-company: another company's lease is rejected as unknown, and left as it is", async () => {
  const { leaseId } = await waitingLease();
  const stranger = await insertCompany(database.sql);
  expect(await operations.release(releaseOf(stranger, leaseId))).toMatchObject({
    kind: 'rejected',
    rejection: { code: 'unknown_lease' },
  });
  expect((await readLease(database.sql, leaseId)).status).toBe('pending_cleanup');
});

test('an unknown company is rejected where companies must be registered', async () => {
  const payload = releaseOf(randomUUID(), randomUUID());
  expect(await operations.release(payload, { companyRegistration: 'known' })).toMatchObject({
    kind: 'rejected',
    rejection: { code: 'unknown_company' },
  });
});

test('isolated: a lease that a driver has to clean up after keeps waiting for it, and no other', async () => {
  const foreign = await waitingLease({ provider: 'ssh' });
  const own = await waitingLease();
  const [cleaning, done] = await operations.apply([release(foreign.payload), release(own.payload)]);
  expect(cleaning).toMatchObject({ kind: 'cleaning', provider: 'ssh', lease: { id: foreign.leaseId } });
  expect(done).toMatchObject({ kind: 'done' });
  expect(await readLease(database.sql, foreign.leaseId)).toMatchObject({
    status: 'pending_cleanup',
    cleanup_status: 'pending',
  });
});

test('a lease that names no provider is cleaned up as its environment says', async () => {
  const { leaseId, payload } = await waitingLease({ provider: null });
  expect(await operations.release(payload)).toEqual({ kind: 'done', result: { leaseId, status: 'released' } });
});
