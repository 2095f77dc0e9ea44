import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { insertLease, insertRun, backdateExpiry } from '../../support/factories.ts';
import { readLease, eventsOf } from '../../support/operations.ts';
import { swept, useLeaseSweep } from './fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });

const { sweep, companyWithLeases, endRun, expireAll, statusesOf, whileRejected } = useLeaseSweep(database);

const sevenTimes = <Value>(value: Value): Value[] => Array.from({ length: 7 }, () => value);

describe('no-leak: the lease sweep', () => {
  test.for(['active', 'pending'] as const)(
    'expires a lease that is %s past its expiry, with its reason',
    async (status) => {
      const { companyId, ids } = await companyWithLeases(1, { status });
      await expireAll(ids);
      expect(await sweep()).toEqual(swept({ expired: 1 }));
      const lease = await readLease(database.sql, ids[0]!);
      expect(lease).toMatchObject({ status: 'expired', cleanup_status: 'success' });
      expect(lease.failure_reason).toMatch(/^not renewed before \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', 'lease_expired']);
    },
  );

  test('leaves a lease that has not expired unchanged', async () => {
    const { companyId, ids } = await companyWithLeases(1);
    expect(await sweep()).toEqual(swept());
    expect(await statusesOf(ids)).toEqual(['active']);
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired']);
  });

  test.for([
    ['succeeded', 'released', null],
    ['cancelled', 'released', null],
    ['failed', 'failed', 'disk full'],
    ['timed_out', 'failed', 'too slow'],
  ] as const)('ends a live lease whose run has %s as %s', async ([runStatus, status, reason]) => {
    const { leases, ids } = await companyWithLeases(1);
    await endRun(leases[0]!.runId, runStatus, reason);
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    const lease = await readLease(database.sql, ids[0]!);
    expect(lease).toMatchObject({ status, failure_reason: reason, cleanup_status: 'success' });
  });

  test('ends an expired lease of an ended run as its run ended', async () => {
    const { leases, ids } = await companyWithLeases(1);
    await expireAll(ids);
    await endRun(leases[0]!.runId, 'succeeded');
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    expect(await statusesOf(ids)).toEqual(['released']);
  });

  test('expires a retained lease after its ttl, and keeps the reason of its run', async () => {
    const { sql } = database;
    const { companyId, environmentId } = await companyWithLeases(0);
    const runId = await insertRun(sql, { companyId });
    const leasePolicy = 'retain_on_failure';
    const id = await insertLease(sql, { companyId, environmentId, runId, leasePolicy });
    await endRun(runId, 'failed', 'look at me');
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    expect(await readLease(sql, id)).toMatchObject({ status: 'retained', failure_reason: 'look at me' });
    expect(await sweep()).toEqual(swept());

    await backdateExpiry(sql, id);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
    const lease = await readLease(sql, id);
    expect(lease).toMatchObject({ status: 'expired', cleanup_status: 'success' });
    expect(lease.failure_reason).toMatch(/^look at me; kept after its run until /);
    expect(await eventsOf(sql, companyId)).toEqual(['lease_acquired', 'lease_retained', 'lease_expired']);
  });

  test('expires a lease without a run', async () => {
    const { companyId, environmentId } = await companyWithLeases(0);
    const id = await insertLease(database.sql, { companyId, environmentId });
    await backdateExpiry(database.sql, id);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
  });
});

describe('the lease sweep in pages', () => {
  test('sweeps all leases, even when a page holds two', async () => {
    const expired = await companyWithLeases(7);
    await expireAll(expired.ids);
    const orphaned = await companyWithLeases(7);
    for (const { runId } of orphaned.leases) await endRun(runId, 'succeeded');
    expect(await sweep(2)).toEqual(swept({ expired: 7, orphaned: 7 }));
    expect(await statusesOf(expired.ids)).toEqual(sevenTimes('expired'));
    expect(await statusesOf(orphaned.ids)).toEqual(sevenTimes('released'));
  });

  test('sweeps all leases that expired at the same instant', async () => {
    const { ids } = await companyWithLeases(7);
    await database.sql`
      update lessor.environment_leases set expires_at = now() - interval '1 s' where id = any(${ids}::uuid[])`;
    expect(await sweep(2)).toEqual(swept({ expired: 7 }));
  });
});

test('always-audited: concurrent sweeps end each lease exactly once', async () => {
  const expired = await companyWithLeases(20);
  await expireAll(expired.ids);
  const orphaned = await companyWithLeases(20);
  for (const { runId } of orphaned.leases) await endRun(runId, 'failed', 'crashed');
  const results = await Promise.all(Array.from({ length: 6 }, () => sweep(3)));
  const sum = (of: 'expired' | 'orphaned' | 'failed') => results.reduce((total, result) => total + result[of], 0);
  // A sweep skips rows that another one has locked, so one more sweep finds what all of them skipped.
  const last = await sweep(3);
  expect(sum('expired') + last.expired).toBe(20);
  expect(sum('orphaned') + last.orphaned).toBe(20);
  expect(sum('failed')).toBe(0);
  const ended = await database.sql`
    select entity_id from lessor.activity_log
    where entity_id = any(${[...expired.ids, ...orphaned.ids]}::uuid[]) and action <> 'environment.lease_acquired'
    group by entity_id having count(*) = 1`;
  expect(ended).toHaveLength(40);
});

describe('isolated: the lease sweep', () => {
  test('ends the other leases when Postgres rejects the end of one, and counts that as failed', async () => {
    const { ids } = await companyWithLeases(7);
    await expireAll(ids);
    const bad = ids[3]!;
    await whileRejected(`new.id = '${bad}'`, async () => {
      expect(await sweep(5)).toEqual(swept({ expired: 6, failed: 1 }));
      expect(await statusesOf(ids)).toEqual(ids.map((id) => (id === bad ? 'active' : 'expired')));
      expect(await sweep(5)).toEqual(swept({ failed: 1 }));
    });
    expect(await sweep(5)).toEqual(swept({ expired: 1 }));
  });

  test('skips an expired lease that another transaction has locked, until the next sweep', async () => {
    const { companyId, ids } = await companyWithLeases(3);
    await expireAll(ids);
    const locked = ids[1]!;
    // That the sweep ends while the lock is held shows that it does not wait.
    await database.sql.begin(async (sql) => {
      await sql`select from lessor.environment_leases where id = ${locked} for update`;
      expect(await sweep()).toEqual(swept({ expired: 2 }));
    });
    expect(await statusesOf(ids)).toEqual(['expired', 'active', 'expired']);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
    expect(await eventsOf(database.sql, companyId)).toHaveLength(6);
  });

  test('skips an orphaned lease that another transaction has locked, until the next sweep', async () => {
    const { leases } = await companyWithLeases(2);
    for (const { runId } of leases) await endRun(runId, 'succeeded');
    await database.sql.begin(async (sql) => {
      await sql`select from lessor.environment_leases where id = ${leases[0]!.id} for update`;
      expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    });
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
  });

  test('does not wait for the lock of a company', async () => {
    const { companyId, ids } = await companyWithLeases(1);
    await expireAll(ids);
    await database.sql.begin(async (sql) => {
      await sql`select from lessor.companies where id = ${companyId} for no key update`;
      expect(await sweep()).toEqual(swept({ expired: 1 }));
    });
  });
});
