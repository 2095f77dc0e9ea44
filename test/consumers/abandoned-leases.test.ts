import { describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { backdateExpiry } from '../support/factories.ts';
import { readLease, eventsOf } from '../support/operations.ts';
import { swept, useLeaseSweep } from './sweep-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const { sweep, companyWithLeases, endRun, statusesOf, whileRefused } = useLeaseSweep(database);

/** Lets nobody have touched leases for so long. */
async function leaveUntouched(ids: readonly string[], seconds: number): Promise<void> {
  await database.sql`
    update lessor.environment_leases set last_used_at = now() - make_interval(secs => ${seconds})
    where id = any(${ids}::uuid[])`;
}

describe('no-leak: a pending lease whose acquirer died', () => {
  test('fails once nobody has touched it for three minutes, and says since when', async () => {
    const { companyId, ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    expect(await sweep()).toEqual(swept({ abandoned: 1 }));
    const lease = await readLease(database.sql, ids[0]!);
    expect(lease).toMatchObject({ status: 'failed', cleanup_status: 'success' });
    expect(lease.failure_reason).toMatch(
      /^acquisition never completed: not touched since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    );
    expect(lease.released_at).not.toBeNull();
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', 'lease_failed']);
    expect(await sweep()).toEqual(swept());
  });

  test('with effects outside Postgres still waits for its cleanup', async () => {
    const { ids } = await companyWithLeases(1, { status: 'pending', provider: 'ssh' });
    await leaveUntouched(ids, 181);
    expect(await sweep()).toEqual(swept({ abandoned: 1 }));
    expect(await readLease(database.sql, ids[0]!)).toMatchObject({
      status: 'pending_cleanup',
      cleanup_status: 'pending',
      failure_reason: expect.stringMatching(/^acquisition never completed/),
    });
  });

  test('is left alone while its acquirer may be at work', async () => {
    const { ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 110);
    expect(await sweep()).toEqual(swept());
    expect(await statusesOf(ids)).toEqual(['pending']);
  });

  test('and one that is active is left alone however long nobody touches it', async () => {
    const { ids } = await companyWithLeases(1);
    await leaveUntouched(ids, 10_000);
    expect(await sweep()).toEqual(swept());
    expect(await statusesOf(ids)).toEqual(['active']);
  });

  test('ends the way its run did where that has ended, even if it has lapsed as well', async () => {
    const { leases, ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    await backdateExpiry(database.sql, ids[0]!);
    await endRun(leases[0]!.runId, 'cancelled');
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    expect(await readLease(database.sql, ids[0]!)).toMatchObject({ status: 'released', failure_reason: null });
  });

  test('is expired where it has lapsed', async () => {
    const { ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    await backdateExpiry(database.sql, ids[0]!);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
    const lease = await readLease(database.sql, ids[0]!);
    expect(lease.status).toBe('expired');
    expect(lease.failure_reason).toMatch(/^not renewed before /);
  });

  test.for([
    ['has lapsed', 'expired', (_runId: string, id: string) => backdateExpiry(database.sql, id)],
    ['is of an ended run', 'released', (runId: string) => endRun(runId, 'succeeded')],
  ] as const)('is never said to be abandoned where it %s, even if it cannot be %s', async ([, status, happen]) => {
    const { leases, ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    await happen(leases[0]!.runId, ids[0]!);
    await whileRefused(`new.status = '${status}'`, async () => {
      expect(await sweep()).toEqual(swept({ failed: 1 }));
      expect(await statusesOf(ids)).toEqual(['pending']);
    });
    expect((await sweep()).failed).toBe(0);
    expect(await statusesOf(ids)).toEqual([status]);
  });

  test('is swept however few fit in a page', async () => {
    const { ids } = await companyWithLeases(7, { status: 'pending' });
    await leaveUntouched(ids, 200);
    expect(await sweep(2)).toEqual(swept({ abandoned: 7 }));
    expect(new Set(await statusesOf(ids))).toEqual(new Set(['failed']));
  });
});

test('isolated: a pending lease that is about to be activated is left alone', async () => {
  const { ids } = await companyWithLeases(2, { status: 'pending' });
  await leaveUntouched(ids, 200);
  await database.sql.begin(async (sql) => {
    await sql`
      update lessor.environment_leases set status = 'active', last_used_at = now() where id = ${ids[0]!}`;
    // That the sweep ends while the lock is held shows that it does not wait.
    expect(await sweep()).toEqual(swept({ abandoned: 1 }));
  });
  expect(await statusesOf(ids)).toEqual(['active', 'failed']);
  expect(await sweep()).toEqual(swept());
});
