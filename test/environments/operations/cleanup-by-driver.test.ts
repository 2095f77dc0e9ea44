import { describe, expect, test } from 'vitest';
import { expireLeases } from '../../../src/db/statements/end-leases.ts';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished } from '../../support/factories.ts';
import { readLease } from '../../support/operations.ts';
import { driverOperationsOn } from './driver-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = driverOperationsOn(database);
const { driver } = operations;

const expire = (leaseId: string) =>
  database.db.transaction((tx) => expireLeases(tx, [leaseId], 'wait', { type: 'system', id: 'test' }));

describe('a lease that a driver cleans up after', () => {
  test.for([
    ['succeeded', 'released', null],
    ['cancelled', 'released', null],
    ['failed', 'failed', 'tests are red'],
    ['timed_out', 'failed', 'the run timed out'],
  ] as const)('of a run that %s is %s only once that is done, told once', async ([status, ending, reason]) => {
    const { run, told } = await operations.remote();
    const started = run();
    const lease = await operations.active(started);
    const failureReason = status === 'failed' ? { failureReason: 'tests are red' } : {};
    const finished = await operations.finish(runFinished(started, { status, ...failureReason }));
    expect(finished).toMatchObject({ kind: 'done', result: { leases: [{ id: lease.id, status: 'pending_cleanup' }] } });
    expect(await readLease(database.sql, lease.id)).toMatchObject({ cleanup_status: 'pending', released_at: null });
    expect(await told()).toEqual(['lease_acquired']);

    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning', provider: 'ssh' });
    const done = { kind: 'done', result: { leaseId: lease.id, status: ending } };
    expect(await driver.cleanedUp(lease)).toEqual(done);
    expect(await driver.cleanedUp(lease)).toEqual(done);
    expect(await driver.cleanUp(lease)).toEqual(done);
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: ending,
      failure_reason: reason,
      cleanup_status: 'success',
    });
    expect(await told()).toEqual(['lease_acquired', `lease_${ending}`]);
  });

  test('that expired is expired once that is done, with the reason', async () => {
    const { run, told } = await operations.remote();
    const lease = await operations.active(run());
    await backdateExpiry(database.sql, lease.id);
    await expire(lease.id);
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'expired',
      failure_reason: expect.stringMatching(/^not renewed before/),
    });
    expect(await told()).toEqual(['lease_acquired', 'lease_expired']);
  });

  test('always-explained: whose release fails says why and how often, and ends as it was to end all the same', async () => {
    const { run, told } = await operations.remote();
    const started = run();
    const lease = await operations.active(started);
    await operations.finish(runFinished(started, { status: 'failed', failureReason: 'tests are red' }));
    await driver.notCleanedUp(lease, { attempt: 2 });
    const row = await readLease(database.sql, lease.id);
    expect(row).toMatchObject({
      status: 'pending_cleanup',
      failure_reason: 'tests are red; release attempt 2 failed: host is down',
    });
    expect(row.metadata).toMatchObject({ releaseAttempts: 2 });
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'failed',
      failure_reason: 'tests are red',
    });
    expect(await told()).toEqual(['lease_acquired', 'lease_failed']);
  });

  test('whose release fails permanently has failed, and its cleanup with it, told as such', async () => {
    const { run, told } = await operations.remote();
    const started = run();
    const lease = await operations.active(started);
    await operations.finish(runFinished(started));
    const result = await driver.notCleanedUp(lease, { attempt: 12, isFinal: true });
    expect(result).toEqual({ kind: 'done', result: { leaseId: lease.id, status: 'failed' } });
    expect(await readLease(database.sql, lease.id)).toMatchObject({
      status: 'failed',
      cleanup_status: 'failed',
      failure_reason: 'release attempt 12 failed: host is down',
    });
    expect(await told()).toEqual(['lease_acquired', 'lease_release_failed']);
  });

  test('whose release failed permanently is reopened when it is asked for, and is released then', async () => {
    const { run, told } = await operations.remote();
    const started = run();
    const lease = await operations.active(started);
    await operations.finish(runFinished(started));
    await driver.notCleanedUp(lease, { attempt: 12, isFinal: true });

    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'cleaning' });
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'pending_cleanup', released_at: null });
    await driver.cleanedUp(lease);
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released', failure_reason: null });
    expect(await told()).toEqual(['lease_acquired', 'lease_release_failed', 'lease_released']);
  });

  test('retained on failure is kept until its ttl, and cleaned up then', async () => {
    const { run, told } = await operations.remote();
    const started = run({ leasePolicy: 'retain_on_failure' });
    const lease = await operations.active(started);
    await operations.finish(runFinished(started, { status: 'failed', failureReason: 'tests are red' }));
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'retained', cleanup_status: 'pending' });
    expect(await driver.cleanUp(lease)).toMatchObject({ kind: 'done', result: { status: 'retained' } });
    await backdateExpiry(database.sql, lease.id);
    await expire(lease.id);
    await driver.cleanedUp(lease);
    expect(await told()).toEqual(['lease_acquired', 'lease_retained', 'lease_expired']);
  });
});

describe('single-flight', () => {
  const executionWorkspaceId = '7d444840-9dc0-11d1-b245-5ffdce74fad2';

  test('an execution workspace is not given away before it is cleaned up after the run that had it', async () => {
    const { run } = await operations.remote();
    const [first, second] = [run({ executionWorkspaceId }), run({ executionWorkspaceId })];
    const lease = await operations.active(first);
    expect(await operations.start(second)).toMatchObject({ kind: 'waiting', heldBy: { as: 'holder' } });
    await operations.finish(runFinished(first));
    expect(await operations.start(second)).toMatchObject({
      kind: 'waiting',
      heldBy: { as: 'cleanup', runId: first.runId },
    });
    await driver.cleanedUp(lease);
    expect(await operations.start(second)).toMatchObject({ kind: 'acquiring' });
  });

  test('a holder that expired is ended by whoever wants its workspace, and cleaned up before it is given away', async () => {
    const { run } = await operations.remote();
    const [first, second] = [run({ executionWorkspaceId }), run({ executionWorkspaceId })];
    const lease = await operations.active(first);
    await backdateExpiry(database.sql, lease.id);
    expect(await operations.start(second)).toMatchObject({ kind: 'waiting', heldBy: { as: 'cleanup' } });
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'pending_cleanup' });
    await driver.cleanedUp(lease);
    expect(await operations.start(second)).toMatchObject({ kind: 'acquiring' });
  });

  test('an environment with one checkout for all its runs has it leased to one at a time, whatever they call it', async () => {
    const { run, environmentId } = await operations.remote();
    await database.sql`
      update lessor.environments set config = '{"workspaceMode": "in_place"}' where id = ${environmentId}`;
    const first = run();
    const lease = await operations.active(first);
    expect(lease.executionWorkspaceId).toBe(environmentId);
    for (const other of [run(), run({ executionWorkspaceId })]) {
      expect(await operations.start(other)).toMatchObject({ kind: 'waiting', heldBy: { runId: first.runId } });
      await operations.finish(runFinished(other));
    }
  });

  test('a cleanup that failed permanently keeps nobody waiting', async () => {
    const { run } = await operations.remote();
    const [first, second] = [run({ executionWorkspaceId }), run({ executionWorkspaceId })];
    const lease = await operations.active(first);
    await operations.finish(runFinished(first));
    await driver.notCleanedUp(lease, { attempt: 12, isFinal: true });
    expect(await operations.start(second)).toMatchObject({ kind: 'acquiring' });
  });
});
