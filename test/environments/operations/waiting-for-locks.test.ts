import { EventEmitter, once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { expireLeases } from '../../../src/db/statements/end-leases.ts';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished, runHeartbeat, runStarted } from '../../support/factories.ts';
import { behindLockOfCompany, untilWaitingForLocks } from '../../support/locks.ts';
import { operationsOn } from '../../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

describe('what waited for a lock', () => {
  test('fenced: a lease with a later token was not acquired earlier, even when its transaction began earlier', async () => {
    const payload = runStarted();
    const first = await operations.granted(payload);
    const [early, late] = await behindLockOfCompany(database, payload.companyId, [
      () => operations.granted(runStarted({ companyId: payload.companyId })),
      () => operations.granted(runStarted({ companyId: payload.companyId })),
    ]);
    const byToken = [first, early!, late!].toSorted((a, b) => a.fencingToken - b.fencingToken);
    const instants = byToken.map((lease) => Date.parse(lease.acquiredAt));
    expect(instants).toEqual(instants.toSorted((a, b) => a - b));
  });

  test('always-bounded: a lease has its whole ttl from when it is granted, however long its start waited', async () => {
    const { companyId } = await operations.granted(runStarted());
    let unlocked = 0;
    const [lease] = await behindLockOfCompany(
      database,
      companyId,
      [() => operations.granted(runStarted({ companyId, ttlSeconds: 60 }))],
      async () => {
        const [row] = await database.sql<[{ millis: number }]>`
          select extract(epoch from clock_timestamp())::float8 * 1000 as millis`;
        unlocked = row.millis;
      },
    );
    expect(Date.parse(lease!.acquiredAt)).toBeGreaterThanOrEqual(Math.floor(unlocked));
  });

  test('a lease is last used and released after it was acquired, even when both waited for one lock', async () => {
    const { companyId } = await operations.granted(runStarted());
    const payload = runStarted({ companyId });
    await behindLockOfCompany<unknown>(database, companyId, [
      () => operations.start(payload),
      () => operations.renew(runHeartbeat(payload)),
    ]);
    const [renewed] = await database.sql`
      select last_used_at >= acquired_at as ordered from lessor.environment_leases
      where heartbeat_run_id = ${payload.runId}`;
    expect(renewed).toEqual({ ordered: true });
    await operations.finish(runFinished(payload));
    const [released] = await database.sql`
      select last_used_at >= acquired_at and released_at >= acquired_at as ordered from lessor.environment_leases
      where heartbeat_run_id = ${payload.runId}`;
    expect(released).toEqual({ ordered: true });
  });

  test('always-audited: an end that waited while a sweep ended the lease finds it ended, and tells nothing', async () => {
    const payload = runStarted();
    const lease = await operations.granted(payload);
    await backdateExpiry(database.sql, lease.id);
    const sweeping = new EventEmitter();
    const swept = once(sweeping, 'swept');
    const sweep = database.db.transaction(async (tx) => {
      await expireLeases(tx, [lease.id], 'skip locked', { type: 'system', id: 'sweep' });
      sweeping.emit('swept');
      await once(sweeping, 'done');
    });
    await Promise.race([swept, sweep]);
    const end = operations.finish(runFinished(payload));
    await untilWaitingForLocks(database, 1);
    sweeping.emit('done');
    await sweep;
    expect(await end).toMatchObject({ kind: 'done', result: { leases: [] } });
    const told = await database.sql`
      select action from lessor.activity_log where entity_id = ${lease.id} order by id`;
    expect(told.map((event) => event['action'])).toEqual(['environment.lease_acquired', 'environment.lease_expired']);
  });
});
