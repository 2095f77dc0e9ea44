import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { LeasePolicy, RunFinished } from '../../../src/contracts/index.ts';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished, runHeartbeat, runStarted } from '../../support/factories.ts';
import { finish, leaseOf, operationsOn, readLease, start, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

const runOf = async (runId: string) => {
  const [run] = await database.sql`select * from lessor.heartbeat_runs where id = ${runId}`;
  return run;
};

const end = async (overrides: Partial<RunFinished>, leasePolicy: LeasePolicy = 'ephemeral') => {
  const payload = runStarted({ leasePolicy, ttlSeconds: 60 });
  const { id } = await operations.granted(payload);
  const outcome = await operations.finish(runFinished(payload, overrides));
  const lease = await readLease(database.sql, id);
  expect(outcome).toEqual({
    kind: 'done',
    result: { runId: payload.runId, status: overrides.status, leases: [{ id, status: lease.status }] },
  });
  return { lease, told: (await eventsOf(database.sql, payload.companyId)).slice(2) };
};

describe("a run's end", () => {
  test.for(['succeeded', 'cancelled'] as const)('as %s releases its lease', async (status) => {
    const { lease, told } = await end({ status });
    expect(lease).toMatchObject({ status: 'released', cleanup_status: 'success', failure_reason: null });
    expect(lease.released_at).toBeInstanceOf(Date);
    expect(told).toEqual(['lease_released']);
  });

  test.for(['failed', 'timed_out'] as const)('as %s fails its lease, with its reason', async (status) => {
    const { lease, told } = await end({ status, failureReason: 'out of memory' });
    expect(lease).toMatchObject({ status: 'failed', cleanup_status: 'success', failure_reason: 'out of memory' });
    expect(told).toEqual(['lease_failed']);
  });

  test('that gives no reason is given one', async () => {
    expect((await end({ status: 'failed' })).lease.failure_reason).toBe('the run failed and gave no reason');
    expect((await end({ status: 'timed_out' })).lease.failure_reason).toBe('the run timed out');
  });

  test.for(['failed', 'timed_out'] as const)('as %s retains its lease under retain_on_failure', async (status) => {
    const { lease, told } = await end({ status, failureReason: 'look at me' }, 'retain_on_failure');
    expect(lease).toMatchObject({
      status: 'retained',
      cleanup_status: 'pending',
      failure_reason: 'look at me',
      released_at: null,
    });
    expect(lease.expires_at.getTime()).toBeGreaterThan(Date.now() + 30_000);
    expect(told).toEqual(['lease_retained']);
  });

  test('as succeeded releases its lease under retain_on_failure too', async () => {
    expect((await end({ status: 'succeeded' }, 'retain_on_failure')).lease.status).toBe('released');
  });

  test('of a expired lease is told as what it is: the run came back before the sweep', async () => {
    const payload = runStarted();
    const { id } = await operations.granted(payload);
    await backdateExpiry(database.sql, id);
    await operations.finish(runFinished(payload));
    expect(await readLease(database.sql, id)).toMatchObject({ status: 'released' });
  });

  test("same-company: of another company's run is rejected, and changes nothing", async () => {
    const payload = runStarted();
    const { id } = await operations.granted(payload);
    const before = await runOf(payload.runId);
    const foreign = runFinished({ ...payload, companyId: randomUUID() });
    expect(await operations.finish(foreign)).toMatchObject({ kind: 'rejected', rejection: { code: 'foreign_run' } });
    expect(await runOf(payload.runId)).toEqual(before);
    expect(await readLease(database.sql, id)).toMatchObject({ status: 'active' });
  });
});

describe('first-end-wins', () => {
  test('a second end changes nothing and tells nothing', async () => {
    const payload = runStarted();
    const { id } = await operations.granted(payload);
    await operations.finish(runFinished(payload, { status: 'succeeded' }));
    const [run, lease, told] = [
      await runOf(payload.runId),
      await readLease(database.sql, id),
      await eventsOf(database.sql, payload.companyId),
    ];
    for (const status of ['failed', 'succeeded'] as const) {
      const outcome = await operations.finish(runFinished(payload, { status, failureReason: 'late' }));
      expect(outcome).toEqual({ kind: 'done', result: { runId: payload.runId, status: 'succeeded', leases: [] } });
    }
    expect(await runOf(payload.runId)).toEqual(run);
    expect(await readLease(database.sql, id)).toEqual(lease);
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(told);
  });

  test('holds within one batch, in the order given', async () => {
    const payload = runStarted();
    const outcomes = await operations.apply([
      start(payload),
      finish(runFinished(payload, { status: 'timed_out' })),
      finish(runFinished(payload, { status: 'succeeded' })),
    ]);
    expect(outcomes.slice(1)).toMatchObject([{ result: { status: 'timed_out' } }, { result: { status: 'timed_out' } }]);
    expect(await readLease(database.sql, leaseOf(outcomes[0]!).id)).toMatchObject({ status: 'failed' });
  });

  test('holds with all four ends racing: one is told', async () => {
    const payload = runStarted();
    await operations.granted(payload);
    const statuses = ['succeeded', 'failed', 'cancelled', 'timed_out'] as const;
    const outcomes = await Promise.all(statuses.map((status) => operations.finish(runFinished(payload, { status }))));
    const said = outcomes.map((outcome) => outcome.kind === 'done' && outcome.result.status);
    expect(new Set(said).size).toBe(1);
    expect(await eventsOf(database.sql, payload.companyId)).toHaveLength(3);
  });
});

describe('any-order', () => {
  test('an end before its start leaves a finished run and no lease', async () => {
    const payload = runStarted({ agentId: randomUUID() });
    const finished = runFinished(payload, { status: 'failed', failureReason: 'early' });
    expect(await operations.finish(finished)).toMatchObject({ kind: 'done', result: { leases: [] } });
    expect(await operations.start(payload)).toEqual({ kind: 'done', result: null });
    expect(await runOf(payload.runId)).toMatchObject({
      status: 'failed',
      agent_id: payload.agentId,
      failure_reason: 'early',
      started_at: new Date(payload.startedAt),
      finished_at: new Date(finished.finishedAt),
    });
    expect(
      await database.sql`
      select from lessor.environment_leases where heartbeat_run_id = ${payload.runId}`,
    ).toHaveLength(0);
  });

  test.for(['end first', 'start first'])(
    'an end in one batch with its start leaves no live lease: %s',
    async (order) => {
      const payload = runStarted();
      const batch = [start(payload), finish(runFinished(payload))];
      await operations.apply(order === 'end first' ? batch.toReversed() : batch);
      const live = await database.sql`
      select from lessor.environment_leases where heartbeat_run_id = ${payload.runId} and status = 'active'`;
      expect(live).toHaveLength(0);
      expect(await runOf(payload.runId)).toMatchObject({ status: 'succeeded' });
    },
  );

  test('start and end racing leave no live lease, whoever wins', async () => {
    const payloads = Array.from({ length: 10 }, () => runStarted());
    await Promise.all(
      payloads.flatMap((payload) => [operations.start(payload), operations.finish(runFinished(payload))]),
    );
    const live = await database.sql`
      select from lessor.environment_leases
      where heartbeat_run_id = any(${payloads.map(({ runId }) => runId)}::uuid[]) and status = 'active'`;
    expect(live).toHaveLength(0);
  });

  test('a heartbeat before its start, or after the end, is done and renews nothing', async () => {
    const payload = runStarted();
    const nothing = { kind: 'done', result: { runId: payload.runId, leases: [] } };
    expect(await operations.renew(runHeartbeat(payload))).toEqual(nothing);
    await operations.granted(payload);
    await operations.finish(runFinished(payload));
    expect(await operations.renew(runHeartbeat(payload))).toMatchObject({
      result: { leases: [{ status: 'released' }] },
    });
  });
});
