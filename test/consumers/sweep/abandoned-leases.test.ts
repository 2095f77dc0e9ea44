import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry } from '../../support/factories.ts';
import { readLease, eventsOf } from '../../support/operations.ts';
import { swept, useLeaseSweep } from './fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const { sweep, companyWithLeases, endRun, statusesOf, whileRejected } = useLeaseSweep(database);

/** Backdates the last use of leases. */
async function leaveUntouched(ids: readonly string[], seconds: number): Promise<void> {
  await database.sql`
    update lessor.environment_leases set last_used_at = now() - make_interval(secs => ${seconds})
    where id = any(${ids}::uuid[])`;
}

describe('no-leak: a pending lease whose acquirer crashed', () => {
  test('fails after three minutes untouched, with a reason that says since when', async () => {
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

  test('waits for its cleanup when it has effects outside Postgres', async () => {
    const { ids } = await companyWithLeases(1, { status: 'pending', provider: 'ssh' });
    await leaveUntouched(ids, 181);
    expect(await sweep()).toEqual(swept({ abandoned: 1 }));
    expect(await readLease(database.sql, ids[0]!)).toMatchObject({
      status: 'pending_cleanup',
      cleanup_status: 'pending',
      failure_reason: expect.stringMatching(/^acquisition never completed/),
    });
  });

  test('is unchanged while its acquirer may still be running', async () => {
    const { ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 110);
    expect(await sweep()).toEqual(swept());
    expect(await statusesOf(ids)).toEqual(['pending']);
  });

  test('is unchanged once it is active, however long it is untouched', async () => {
    const { ids } = await companyWithLeases(1);
    await leaveUntouched(ids, 10_000);
    expect(await sweep()).toEqual(swept());
    expect(await statusesOf(ids)).toEqual(['active']);
  });

  test('ends as its run ended, even when it has expired as well', async () => {
    const { leases, ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    await backdateExpiry(database.sql, ids[0]!);
    await endRun(leases[0]!.runId, 'cancelled');
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    expect(await readLease(database.sql, ids[0]!)).toMatchObject({ status: 'released', failure_reason: null });
  });

  test('is expired when it is past its expiry', async () => {
    const { ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    await backdateExpiry(database.sql, ids[0]!);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
    const lease = await readLease(database.sql, ids[0]!);
    expect(lease.status).toBe('expired');
    expect(lease.failure_reason).toMatch(/^not renewed before /);
  });

  test.for([
    ['has expired', 'expired', (_runId: string, id: string) => backdateExpiry(database.sql, id)],
    ['belongs to an ended run', 'released', (runId: string) => endRun(runId, 'succeeded')],
  ] as const)('is never abandoned when it %s, even when Postgres rejects that it is %s', async ([, status, happen]) => {
    const { leases, ids } = await companyWithLeases(1, { status: 'pending' });
    await leaveUntouched(ids, 181);
    await happen(leases[0]!.runId, ids[0]!);
    await whileRejected(`new.status = '${status}'`, async () => {
      expect(await sweep()).toEqual(swept({ failed: 1 }));
      expect(await statusesOf(ids)).toEqual(['pending']);
    });
    expect((await sweep()).failed).toBe(0);
    expect(await statusesOf(ids)).toEqual([status]);
  });

  test('is swept even when a page holds two', async () => {
    const { ids } = await companyWithLeases(7, { status: 'pending' });
    await leaveUntouched(ids, 200);
    expect(await sweep(2)).toEqual(swept({ abandoned: 7 }));
    expect(new Set(await statusesOf(ids))).toEqual(new Set(['failed']));
  });
});

test('isolated: the sweep skips a pending lease that is being activated', async () => {
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
