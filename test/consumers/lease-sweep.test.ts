import { describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { insertLease, insertRun, backdateExpiry } from '../support/factories.ts';
import { readLease, eventsOf } from '../support/operations.ts';
import { swept, useLeaseSweep } from './sweep-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });

const { sweep, companyWithLeases, endRun, lapseAll, statusesOf, whileRefused } = useLeaseSweep(database);

const sevenTimes = <Value>(value: Value): Value[] => Array.from({ length: 7 }, () => value);

describe('no-leak', () => {
  test.for(['active', 'pending'] as const)('a lapsed lease that is %s is expired, with its reason', async (status) => {
    const { companyId, ids } = await companyWithLeases(1, { status });
    await lapseAll(ids);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
    const lease = await readLease(database.sql, ids[0]!);
    expect(lease).toMatchObject({ status: 'expired', cleanup_status: 'success' });
    expect(lease.failure_reason).toMatch(/^not renewed before \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', 'lease_expired']);
  });

  test('a lease that has not lapsed is left alone', async () => {
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
  ] as const)('a live lease whose run has %s is %s', async ([runStatus, status, reason]) => {
    const { leases, ids } = await companyWithLeases(1);
    await endRun(leases[0]!.runId, runStatus, reason);
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    const lease = await readLease(database.sql, ids[0]!);
    expect(lease).toMatchObject({ status, failure_reason: reason, cleanup_status: 'success' });
  });

  test('a lapsed lease whose run has ended ends the way its run did', async () => {
    const { leases, ids } = await companyWithLeases(1);
    await lapseAll(ids);
    await endRun(leases[0]!.runId, 'succeeded');
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    expect(await statusesOf(ids)).toEqual(['released']);
  });

  test('a retained lease is expired past its ttl, and keeps the reason of its run', async () => {
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

  test('a lease without a run is expired too', async () => {
    const { companyId, environmentId } = await companyWithLeases(0);
    const id = await insertLease(database.sql, { companyId, environmentId });
    await backdateExpiry(database.sql, id);
    expect(await sweep()).toEqual(swept({ expired: 1 }));
  });
});

describe('pages', () => {
  test('all leases are swept however few fit in a page', async () => {
    const lapsed = await companyWithLeases(7);
    await lapseAll(lapsed.ids);
    const orphaned = await companyWithLeases(7);
    for (const { runId } of orphaned.leases) await endRun(runId, 'succeeded');
    expect(await sweep(2)).toEqual(swept({ expired: 7, orphaned: 7 }));
    expect(await statusesOf(lapsed.ids)).toEqual(sevenTimes('expired'));
    expect(await statusesOf(orphaned.ids)).toEqual(sevenTimes('released'));
  });

  test('leases that lapsed at the same instant are all swept', async () => {
    const { ids } = await companyWithLeases(7);
    await database.sql`
      update lessor.environment_leases set expires_at = now() - interval '1 s' where id = any(${ids}::uuid[])`;
    expect(await sweep(2)).toEqual(swept({ expired: 7 }));
  });
});

test('always-audited: sweeps that race end each lease exactly once', async () => {
  const lapsed = await companyWithLeases(20);
  await lapseAll(lapsed.ids);
  const orphaned = await companyWithLeases(20);
  for (const { runId } of orphaned.leases) await endRun(runId, 'failed', 'crashed');
  const results = await Promise.all(Array.from({ length: 6 }, () => sweep(3)));
  const sum = (of: 'expired' | 'orphaned' | 'failed') => results.reduce((total, result) => total + result[of], 0);
  // A sweep skips what another one has locked, so it takes one more to be sure that nothing was left behind.
  const last = await sweep(3);
  expect(sum('expired') + last.expired).toBe(20);
  expect(sum('orphaned') + last.orphaned).toBe(20);
  expect(sum('failed')).toBe(0);
  const ended = await database.sql`
    select entity_id from lessor.activity_log
    where entity_id = any(${[...lapsed.ids, ...orphaned.ids]}::uuid[]) and action <> 'environment.lease_acquired'
    group by entity_id having count(*) = 1`;
  expect(ended).toHaveLength(40);
});

describe('isolated', () => {
  test('a lease that Postgres refuses to end does not stop the rest, and is counted as failed', async () => {
    const { ids } = await companyWithLeases(7);
    await lapseAll(ids);
    const bad = ids[3]!;
    await whileRefused(`new.id = '${bad}'`, async () => {
      expect(await sweep(5)).toEqual(swept({ expired: 6, failed: 1 }));
      expect(await statusesOf(ids)).toEqual(ids.map((id) => (id === bad ? 'active' : 'expired')));
      expect(await sweep(5)).toEqual(swept({ failed: 1 }));
    });
    expect(await sweep(5)).toEqual(swept({ expired: 1 }));
  });

  test('a lease that someone else has locked is left alone, and swept by the next sweep', async () => {
    const { companyId, ids } = await companyWithLeases(3);
    await lapseAll(ids);
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

  test('an orphaned lease that someone else has locked is left alone, and swept by the next sweep', async () => {
    const { leases } = await companyWithLeases(2);
    for (const { runId } of leases) await endRun(runId, 'succeeded');
    await database.sql.begin(async (sql) => {
      await sql`select from lessor.environment_leases where id = ${leases[0]!.id} for update`;
      expect(await sweep()).toEqual(swept({ orphaned: 1 }));
    });
    expect(await sweep()).toEqual(swept({ orphaned: 1 }));
  });

  test('operations on a company under way do not hold up its sweep', async () => {
    const { companyId, ids } = await companyWithLeases(1);
    await lapseAll(ids);
    await database.sql.begin(async (sql) => {
      await sql`select from lessor.companies where id = ${companyId} for no key update`;
      expect(await sweep()).toEqual(swept({ expired: 1 }));
    });
  });
});
