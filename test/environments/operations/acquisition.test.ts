import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { runFinished, runHeartbeat } from '../../support/factories.ts';
import { leaseOf, readLease } from '../../support/operations.ts';
import { driverOperationsOn } from './driver-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = driverOperationsOn(database);
const { driver } = operations;

const contextOf = async (runId: string): Promise<object> => {
  const [run] = await database.sql<[{ context_snapshot: object }]>`
    select context_snapshot from lessor.heartbeat_runs where id = ${runId}`;
  return run.context_snapshot;
};

const metadataOf = async (leaseId: string) => (await readLease(database.sql, leaseId)).metadata;

describe('a lease that a driver acquires', () => {
  test('is committed as pending before the driver is called, bounded and suppressed', async () => {
    const { run, told } = await operations.remote();
    const started = run({ ttlSeconds: 5 });
    const lease = await operations.pending(started);
    const row = await readLease(database.sql, lease.id);
    expect(row).toMatchObject({ status: 'pending', provider_lease_id: null, cleanup_status: null });
    const [{ seconds }] = await database.sql<[{ seconds: number }]>`
      select extract(epoch from expires_at - now())::float8 as seconds from lessor.environment_leases
      where id = ${lease.id}`;
    expect(seconds).toBeGreaterThan(170);
    expect(await told()).toEqual([]);
    expect(await contextOf(started.runId)).toEqual({});
  });

  test('becomes active with what the driver acquired, for its ttl, told once and written into the context', async () => {
    const { run, environmentId, told } = await operations.remote();
    const started = run({ ttlSeconds: 60 });
    const pending = await operations.pending(started);
    expect(await driver.begin(pending)).toMatchObject({ kind: 'acquiring', lease: { id: pending.id } });
    const lease = leaseOf(await driver.acquired(pending, '/srv/place'));
    expect(lease).toMatchObject({ id: pending.id, status: 'active', providerLeaseId: '/srv/place', ttlSeconds: 60 });
    expect(Date.parse(lease.expiresAt) - Date.parse(lease.acquiredAt)).toBe(60_000);
    expect(await contextOf(started.runId)).toEqual({
      paperclipEnvironment: { id: environmentId, name: 'box', driver: 'ssh', leaseId: lease.id },
      lessorFencingToken: lease.fencingToken,
    });
    expect(await driver.acquired(pending, '/srv/place')).toEqual({ kind: 'done', result: lease });
    expect(await told()).toEqual(['lease_acquired']);
  });

  test('one-lease: delivered again it is gone on with while it is pending, and returned once it is active', async () => {
    const { run } = await operations.remote();
    const started = run();
    const pending = await operations.pending(started);
    expect((await operations.pending(started)).id).toBe(pending.id);
    await driver.begin(pending);
    const lease = leaseOf(await driver.acquired(pending));
    expect(await operations.start(started)).toEqual({ kind: 'done', result: lease });
  });

  test('fenced: has a token above all that became active before it, however long its driver took', async () => {
    const { run } = await operations.remote();
    const slow = await operations.pending(run());
    const quick = await operations.active(run());
    await driver.begin(slow);
    expect(leaseOf(await driver.acquired(slow)).fencingToken).toBeGreaterThan(quick.fencingToken);
  });

  test('says in its metadata which of issue, project and agent decided, and why', async () => {
    const { run, environmentId } = await operations.remote();
    const other = randomUUID();
    const byIssue = await operations.pending(
      run({ environment: { issue: environmentId, project: other, agent: other } }),
    );
    expect(await metadataOf(byIssue.id)).toMatchObject({ environmentSelection: { source: 'issue' } });
    const byProject = await operations.pending(run({ environment: { project: environmentId, agent: other } }));
    expect(await metadataOf(byProject.id)).toEqual({
      environmentSelection: { source: 'project', reason: 'the project names it, and the issue names none' },
    });
    const byAgent = await operations.pending(run({ environment: { agent: environmentId }, metadata: { own: 1 } }));
    expect(await metadataOf(byAgent.id)).toMatchObject({ own: 1, environmentSelection: { source: 'agent' } });
    const local = await operations.granted(run({ environment: undefined }));
    expect(await metadataOf(local.id)).toMatchObject({ environmentSelection: { source: 'company' } });
  });

  test('is not granted where environments are switched off, and no run falls back to Local', async () => {
    const { run, told } = await operations.remote();
    const leasable = { enabled: false, drivers: new Set(['ssh'] as const) };
    const outcome = await operations.start(run(), { leasable });
    expect(outcome).toMatchObject({ kind: 'rejected', rejection: { code: 'environments_disabled' } });
    expect(await told()).toEqual(['lease_denied']);
  });
});

describe('an acquisition that fails', () => {
  test('leaves the lease pending with the reason and the number of attempts, to be tried again', async () => {
    const { run, told } = await operations.remote();
    const started = run();
    const lease = await operations.pending(started);
    await driver.begin(lease);
    await driver.notAcquired(lease, { attempt: 3 });
    const row = await readLease(database.sql, lease.id);
    expect(row).toMatchObject({ status: 'pending', failure_reason: 'host is down', acquiring_until: null });
    expect(row.metadata).toMatchObject({ acquireAttempts: 3 });
    await operations.pending(started);
    await driver.begin(lease);
    expect(leaseOf(await driver.acquired(lease)).failureReason).toBeNull();
    expect(await told()).toEqual(['lease_acquired']);
  });

  test('permanently is cleaned up after, and ends the lease failed with the reason, told once', async () => {
    const { run, told } = await operations.remote();
    const lease = await operations.pending(run());
    await driver.begin(lease);
    await driver.notAcquired(lease, { isFinal: true });
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'pending_cleanup' });
    expect(await told()).toEqual([]);
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'failed',
      failure_reason: 'acquisition failed: host is down',
      cleanup_status: 'success',
    });
    expect(await told()).toEqual(['lease_failed']);
  });

  test('because the run is rejected is told as a rejection too', async () => {
    const { run, told } = await operations.remote();
    const lease = await operations.pending(run());
    await driver.begin(lease);
    const rejection = { code: 'host_key_rejected', reason: 'not the key of before' } as const;
    await driver.notAcquired(lease, { isFinal: true, rejection });
    await driver.cleanedUp(lease);
    expect((await told()).toSorted()).toEqual(['lease_denied', 'lease_failed']);
  });
});

/** A run that has ended since its lease's driver began. */
async function endedWhileAcquiring() {
  const { run, told } = await operations.remote();
  const started = run();
  const lease = await operations.pending(started);
  await driver.begin(lease);
  await operations.finish(runFinished(started));
  return { started, lease, told };
}

describe('a run that ends while its lease is acquired', () => {
  test('has it cleaned up instead of activated, and not before its driver is done', async () => {
    const { started, lease, told } = await endedWhileAcquiring();
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'pending_cleanup' });
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'snoozed' });

    expect(await driver.acquired(lease)).toEqual({ kind: 'done', result: null });
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released', cleanup_status: 'success' });
    expect(await told()).toEqual(['lease_released']);
    expect(await contextOf(started.runId)).toEqual({});
  });

  test('has it cleaned up once its acquirer must be dead', async () => {
    const { run } = await operations.remote();
    const started = run();
    const lease = await operations.pending(started);
    await driver.begin(lease);
    await operations.finish(runFinished(started, { status: 'cancelled' }));
    await database.sql`
      update lessor.environment_leases set acquiring_until = now() - interval '1 s' where id = ${lease.id}`;
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
  });

  test('no-leak: what an acquirer that was held to be dead makes after the cleanup is cleaned up again', async () => {
    const { lease } = await endedWhileAcquiring();
    await database.sql`
      update lessor.environment_leases set acquiring_until = now() - interval '1 s' where id = ${lease.id}`;
    await driver.cleanUp(lease);
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released' });
    await driver.acquired(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'pending_cleanup',
      ending_status: 'released',
    });
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
    // The audit wants one end of each lease: here the first one was told before its time.
    await database.sql`delete from lessor.activity_log where entity_id = ${lease.id}`;
    await driver.cleanedUp(lease);
  });

  test('no-leak: is cleaned up again after a cleanup that failed permanently, and ends as it was to end', async () => {
    const { lease, told } = await endedWhileAcquiring();
    await driver.notCleanedUp(lease, { attempt: 12, isFinal: true });
    await driver.acquired(lease);
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released', failure_reason: null });
    expect(await told()).toEqual(['lease_release_failed', 'lease_released']);
  });

  test('as failed has it cleaned up instead of retained: there is nothing to look at yet', async () => {
    const { run, told } = await operations.remote();
    const started = run({ leasePolicy: 'retain_on_failure' });
    const lease = await operations.pending(started);
    await operations.finish(runFinished(started, { status: 'failed', failureReason: 'tests are red' }));
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'pending_cleanup',
      ending_status: 'failed',
    });
    await driver.cleanedUp(lease);
    expect(await told()).toEqual(['lease_failed']);
  });

  test('no-leak: what is acquired after its cleanup began is cleaned up before the lease ends', async () => {
    const { lease, told } = await endedWhileAcquiring();
    await database.sql`
      update lessor.environment_leases set acquiring_until = now() - interval '1 s' where id = ${lease.id}`;
    for (const report of [driver.acquired, () => driver.notAcquired(lease)]) {
      expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
      await report(lease);
      expect(await driver.cleanedUp(lease)).toMatchObject({ kind: 'snoozed' });
    }
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
    expect(await driver.cleanedUp(lease)).toMatchObject({ kind: 'done', result: { status: 'released' } });
    expect(await told()).toEqual(['lease_released']);
  });

  test('is not begun any more, and its start delivered again grants nothing', async () => {
    const { run } = await operations.remote();
    const started = run();
    const lease = await operations.pending(started);
    await operations.finish(runFinished(started));
    expect(await driver.begin(lease)).toEqual({ kind: 'done', result: null });
    expect(await operations.start(started)).toEqual({ kind: 'done', result: null });
  });

  test('is not made live by a heartbeat', async () => {
    const { run } = await operations.remote();
    const started = run();
    const lease = await operations.pending(started);
    await operations.renew(runHeartbeat(started));
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'pending' });
    await operations.finish(runFinished(started));
    await operations.renew(runHeartbeat(started));
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'pending_cleanup' });
  });
});
