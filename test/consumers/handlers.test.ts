import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { openCommitter } from '../../src/consumers/committer.ts';
import { runFinishedHandler } from '../../src/consumers/handlers.ts';
import { runHeartbeatHandler } from '../../src/consumers/handlers.ts';
import { runStartedHandler } from '../../src/consumers/handlers.ts';
import { resolveWorkerSettings } from '../../src/consumers/worker-settings.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, runFinished, runHeartbeat, runStarted } from '../support/factories.ts';
import { leaseOf, readLease, eventsOf } from '../support/operations.ts';
import { countLeases, rejectRun, silentLogger } from './fixture.ts';
import type { WorkerOverrides } from './fixture.ts';

const database = useDatabase({ audited: true });

const FIRST_ATTEMPT = { number: 1, isLast: false };

/** The dependencies that a worker gives to its handlers. */
function dependencies(settings: Omit<WorkerOverrides, 'logger'> = {}) {
  const { url } = database;
  const resolved = resolveWorkerSettings({ databaseUrl: url, queueUrl: url, replica: 'test', ...settings });
  return openCommitter(database.pool, resolved, {
    logger: silentLogger,
    releaseJobs: { restore: async () => 0 },
    drivers: [],
  });
}

describe('run-started', () => {
  test('grants a lease and writes it into the context snapshot of the run', async () => {
    const payload = runStarted();
    const lease = leaseOf(await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT));
    expect(lease).toMatchObject({ status: 'active', ttlSeconds: 300, environment: { driver: 'local', name: 'Local' } });
    const [run] = await database.sql<[{ context_snapshot: object }]>`
      select context_snapshot from lessor.heartbeat_runs where id = ${payload.runId}`;
    expect(run.context_snapshot).toEqual({
      paperclipEnvironment: { ...lease.environment, leaseId: lease.id },
      lessorFencingToken: lease.fencingToken,
    });
  });

  test('one-lease: returns the same lease when delivered again, even concurrently', async () => {
    const payload = runStarted();
    const handlerDependencies = dependencies();
    const outcomes = await Promise.all(
      [1, 2, 3].map(() => runStartedHandler.handle(handlerDependencies, payload, FIRST_ATTEMPT)),
    );
    outcomes.push(await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT));
    expect(new Set(outcomes.map((outcome) => leaseOf(outcome).id)).size).toBe(1);
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('grants each of many concurrent runs its own lease', async () => {
    const handlerDependencies = dependencies({ batchSize: 7 });
    const companies = Array.from({ length: 5 }, () => randomUUID());
    const payloads = Array.from({ length: 60 }, (_, number) => runStarted({ companyId: companies[number % 5]! }));
    const outcomes = await Promise.all(
      payloads.map((payload) => runStartedHandler.handle(handlerDependencies, payload, FIRST_ATTEMPT)),
    );
    expect(outcomes.map((outcome) => leaseOf(outcome).runId)).toEqual(payloads.map((payload) => payload.runId));
    expect(await countLeases(database.sql, companies)).toEqual({ locals: 5, leases: 60, runs: 60, acquired: 60 });
  });

  test('uses the default ttl and the replica name of the worker', async () => {
    const payload = runStarted();
    const handlerDependencies = dependencies({ defaultTtlSeconds: 77, replica: 'replica-7' });
    const lease = leaseOf(await runStartedHandler.handle(handlerDependencies, payload, FIRST_ATTEMPT));
    expect(lease.ttlSeconds).toBe(77);
    const [event] = await database.sql<[{ actor_id: string }]>`
      select actor_id from lessor.activity_log where entity_id = ${lease.id}`;
    expect(event.actor_id).toBe('lessor:replica-7');
  });

  test('rejects an unknown company under COMPANY_REGISTRATION=known, and writes nothing', async () => {
    const payload = runStarted();
    const handlerDependencies = dependencies({ companyRegistration: 'known' });
    expect(await runStartedHandler.handle(handlerDependencies, payload, FIRST_ATTEMPT)).toMatchObject({
      kind: 'rejected',
      rejection: { code: 'unknown_company' },
    });
    expect(await database.sql`select from lessor.heartbeat_runs where id = ${payload.runId}`).toHaveLength(0);
  });

  test('isolated: an operation that Postgres rejects fails with its error, and its neighbours succeed', async () => {
    const companyId = randomUUID();
    const payloads = [runStarted({ companyId }), runStarted({ companyId }), runStarted({ companyId })];
    const offending = payloads[1]!.runId;
    await rejectRun(database.sql, offending, 'P0001');
    const handlerDependencies = dependencies();
    const outcomes = await Promise.allSettled(
      payloads.map((payload) => runStartedHandler.handle(handlerDependencies, payload, FIRST_ATTEMPT)),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({ reason: { code: 'P0001' } });
    expect(await countLeases(database.sql, [companyId])).toEqual({ locals: 1, leases: 2, runs: 2, acquired: 2 });
  });

  describe('always-audited: a rejection', () => {
    const rejection = { code: 'invalid_payload', reason: 'ttlSeconds is too large' } as const;

    test('is recorded once a run when the company is registered', async () => {
      const companyId = await insertCompany(database.sql);
      const run = { companyId, runId: randomUUID(), ttlSeconds: 1e9 };
      await runStartedHandler.onRejected!(dependencies(), run, rejection);
      await runStartedHandler.onRejected!(dependencies(), run, rejection);
      const events = await database.sql<{ run_id: string; details: object }[]>`
        select run_id, details from lessor.activity_log where company_id = ${companyId}`;
      expect(events).toEqual([{ run_id: run.runId, details: rejection }]);
    });

    test('is not recorded when the company is not registered, and does not register it', async () => {
      const run = { companyId: randomUUID(), runId: randomUUID() };
      await runStartedHandler.onRejected!(dependencies(), run, rejection);
      expect(await database.sql`select from lessor.companies where id = ${run.companyId}`).toHaveLength(0);
    });

    test.for([null, 'text', 7, [], {}, { companyId: 'no id', runId: randomUUID() }])(
      'is not recorded when the data %j names no run',
      async (data) => {
        await runStartedHandler.onRejected!(dependencies(), data, rejection);
        expect(
          await database.sql`select from lessor.activity_log where run_id is null and action = 'environment.lease_denied'`,
        ).toEqual([]);
      },
    );
  });
});

describe('run-finished', () => {
  test('ends the run and its lease', async () => {
    const payload = runStarted();
    const lease = leaseOf(await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT));
    const outcome = await runFinishedHandler.handle(dependencies(), runFinished(payload), FIRST_ATTEMPT);
    expect(outcome).toMatchObject({ kind: 'done', result: { leases: [{ id: lease.id, status: 'released' }] } });
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released', cleanup_status: 'success' });
  });

  test('any-order: before its start leaves a finished run and no lease', async () => {
    const payload = runStarted();
    await runFinishedHandler.handle(dependencies(), runFinished(payload, { status: 'cancelled' }), FIRST_ATTEMPT);
    const outcome = await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT);
    expect(outcome).toEqual({ kind: 'done', result: null });
    expect(await countLeases(database.sql, [payload.companyId])).toMatchObject({ leases: 0 });
  });

  test('first-end-wins: a later end changes nothing and returns the first one', async () => {
    const payload = runStarted();
    await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT);
    await runFinishedHandler.handle(
      dependencies(),
      runFinished(payload, { status: 'failed', failureReason: 'first' }),
      FIRST_ATTEMPT,
    );
    const outcome = await runFinishedHandler.handle(dependencies(), runFinished(payload), FIRST_ATTEMPT);
    expect(outcome).toEqual({ kind: 'done', result: { runId: payload.runId, status: 'failed', leases: [] } });
  });
});

describe('run-heartbeat', () => {
  test('renews the lease of the run', async () => {
    const payload = runStarted({ ttlSeconds: 60 });
    const lease = leaseOf(await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT));
    const outcome = await runHeartbeatHandler.handle(
      dependencies(),
      runHeartbeat(payload, { ttlSeconds: 3_600 }),
      FIRST_ATTEMPT,
    );
    expect(outcome).toMatchObject({ kind: 'done', result: { leases: [{ id: lease.id, status: 'active' }] } });
    const { expires_at } = await readLease(database.sql, lease.id);
    expect(expires_at.getTime() - Date.parse(lease.acquiredAt)).toBeGreaterThanOrEqual(3_600_000);
  });

  test("same-company: rejects a heartbeat of another company's run", async () => {
    const payload = runStarted();
    await runStartedHandler.handle(dependencies(), payload, FIRST_ATTEMPT);
    const stranger = await insertCompany(database.sql);
    const outcome = await runHeartbeatHandler.handle(
      dependencies(),
      runHeartbeat({ ...payload, companyId: stranger }),
      FIRST_ATTEMPT,
    );
    expect(outcome).toMatchObject({ kind: 'rejected', rejection: { code: 'foreign_run' } });
  });
});
