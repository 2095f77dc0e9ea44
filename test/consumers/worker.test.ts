import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { createWorker } from '../../src/consumers/worker.ts';
import { InvalidConfigurationError, SchemaOutdatedError, runStartedResultSchema } from '../../src/contracts/index.ts';
import type { HeartbeatProducer } from '../../src/producers/producer.ts';
import { runFinished, runStarted } from '../support/factories.ts';
import { readLease, eventsOf } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { countLeases, jobInState, newWorker, openProducer, startWorker, useQueues, useWorker } from './fixture.ts';

const newRun = (companyId: string = randomUUID()) => ({ companyId, runId: randomUUID() });

describeOnEachBackend(
  'a worker',
  (backend) => {
    const { database } = backend;
    useWorker(backend);
    const queue = useQueues(backend);
    let producer: HeartbeatProducer;
    beforeEach(() => {
      producer = openProducer(backend);
    });

    const runOf = async (runId: string) => {
      const [run] = await database.sql`select * from lessor.heartbeat_runs where id = ${runId}`;
      return run;
    };

    test('grants a run its lease, which the producer that waits for it gets', async () => {
      const run = { ...newRun(), agentId: randomUUID(), ttlSeconds: 60, metadata: { purpose: 'test' } };
      await producer.runStarted(run);
      const lease = await producer.waitForLease(run.runId);
      expect(lease).toMatchObject({ companyId: run.companyId, runId: run.runId, status: 'active', ttlSeconds: 60 });
      const [row] = await database.sql`select * from lessor.environment_leases where heartbeat_run_id = ${run.runId}`;
      expect(row).toMatchObject({ id: lease.id, status: 'active', metadata: { purpose: 'test' } });
      expect(await runOf(run.runId)).toMatchObject({
        status: 'running',
        agent_id: run.agentId,
        context_snapshot: { paperclipEnvironment: { ...lease.environment, leaseId: lease.id } },
      });
    });

    test('always-audited: records each transition once, from start to end', async () => {
      const run = newRun();
      await producer.runStarted(run);
      const lease = await producer.waitForLease(run.runId);
      const { jobId } = await producer.runFinished({ ...run, status: 'succeeded' });
      await jobInState(queue('run-finished'), jobId, 'completed');
      expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released', cleanup_status: 'success' });
      expect(await eventsOf(database.sql, run.companyId)).toEqual(['created', 'lease_acquired', 'lease_released']);
    });

    test('renews the lease with each heartbeat', async () => {
      const run = newRun();
      await producer.runStarted({ ...run, ttlSeconds: 60 });
      const lease = await producer.waitForLease(run.runId);
      const { leases } = await producer.renewLease({ ...run, ttlSeconds: 600 });
      expect(leases).toMatchObject([{ id: lease.id, status: 'active' }]);
      expect(Date.parse(leases[0]!.expiresAt) - Date.parse(lease.acquiredAt)).toBeGreaterThanOrEqual(600_000);
    });

    test('any-order: an end before its start leaves a finished run and no lease', async () => {
      const run = newRun();
      const finished = await producer.runFinished({ ...run, status: 'cancelled' });
      await jobInState(queue('run-finished'), finished.jobId, 'completed');
      const started = await producer.runStarted(run);
      const job = await jobInState(queue('run-started'), started.jobId, 'completed');
      expect(job.returnvalue).toBeNull();
      expect(await runOf(run.runId)).toMatchObject({ status: 'cancelled' });
      expect(await countLeases(database.sql, [run.companyId])).toMatchObject({ leases: 0, acquired: 0 });
    });

    test('any-order: a start and an end published together leave no live lease', async () => {
      const companyId = randomUUID();
      const runs = Array.from({ length: 20 }, () => newRun(companyId));
      const ends = await Promise.all(
        runs.flatMap((run) => [producer.runStarted(run), producer.runFinished({ ...run, status: 'succeeded' })]),
      );
      for (const { jobId } of ends) {
        await jobInState(queue(jobId.endsWith('started') ? 'run-started' : 'run-finished'), jobId, 'completed');
      }
      const live = await database.sql`
        select from lessor.environment_leases where company_id = ${companyId} and status in ('pending', 'active')`;
      expect(live).toHaveLength(0);
    });

    test('first-end-wins: a second end from another client changes nothing', async () => {
      const run = newRun();
      await producer.runStarted(run);
      await producer.waitForLease(run.runId);
      const first = await producer.runFinished({ ...run, status: 'failed', failureReason: 'the first' });
      await jobInState(queue('run-finished'), first.jobId, 'completed');
      const before = await runOf(run.runId);

      const jobId = `another-${run.runId}`;
      await queue('run-finished').add('run-finished', runFinished(run, { status: 'succeeded' }), { jobId });
      const job = await jobInState(queue('run-finished'), jobId, 'completed');
      expect(job.returnvalue).toEqual({ runId: run.runId, status: 'failed', leases: [] });
      expect(await runOf(run.runId)).toEqual(before);
      expect(await eventsOf(database.sql, run.companyId)).toEqual(['created', 'lease_acquired', 'lease_failed']);
    });

    test('one-lease: a start delivered under other job ids returns the same lease', async () => {
      const payload = runStarted();
      const ids = Array.from({ length: 5 }, (_, number) => `client-${number}-${payload.runId}`);
      await Promise.all(ids.map((jobId) => queue('run-started').add('started', payload, { jobId })));
      await producer.runStarted({ companyId: payload.companyId, runId: payload.runId });
      const lease = await producer.waitForLease(payload.runId);
      for (const jobId of ids) {
        const job = await jobInState(queue('run-started'), jobId, 'completed');
        expect(runStartedResultSchema.parse(job.returnvalue)).toEqual(lease);
      }
      expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
    });

    test('one-lease: a start delivered again after the end does not revive the run', async () => {
      const payload = runStarted();
      await producer.runStarted(payload);
      await producer.waitForLease(payload.runId);
      const finished = await producer.runFinished({ ...runFinished(payload) });
      await jobInState(queue('run-finished'), finished.jobId, 'completed');
      const jobId = `again-${payload.runId}`;
      await queue('run-started').add('started', payload, { jobId });
      await jobInState(queue('run-started'), jobId, 'completed');
      expect(await countLeases(database.sql, [payload.companyId])).toMatchObject({ leases: 1, acquired: 1 });
      expect(await runOf(payload.runId)).toMatchObject({ status: 'succeeded' });
    });
  },
  { audited: true },
);

describeOnEachBackend(
  'the sweep',
  (backend) => {
    test('no-leak: expires the lease of a silent run after expires_at', async () => {
      const { sql } = backend.database;
      await startWorker(backend, { sweepIntervalMs: 200 });
      const producer = openProducer(backend);
      const run = { companyId: randomUUID(), runId: randomUUID() };
      await producer.runStarted({ ...run, ttlSeconds: 1 });
      const { id } = await producer.waitForLease(run.runId);
      const lease = await until(async () => {
        const state = await readLease(sql, id);
        return state.status === 'expired' && state;
      });
      expect(lease.released_at!.getTime()).toBeGreaterThanOrEqual(lease.expires_at.getTime());
      expect(lease.failure_reason).toMatch(/^not renewed before /);
      expect(await eventsOf(sql, run.companyId)).toEqual(['created', 'lease_acquired', 'lease_expired']);
    });
  },
  { audited: true },
);

describeOnEachBackend('the lifecycle of a worker', (backend) => {
  test('close returns the same promise every time', async () => {
    const worker = await startWorker(backend);
    const closing = worker.close();
    expect(worker.close()).toBe(closing);
    await closing;
  });

  test('a worker can be closed without being started', async () => {
    await expect(newWorker(backend).close()).resolves.toBeUndefined();
  });

  test('a worker does not start on a database without migrations, and names the command', async () => {
    const { sql, url } = backend.database;
    await sql`create database ${sql(`${new URL(url).pathname.slice(1)}_unmigrated`)}`;
    const unmigrated = new URL(url);
    unmigrated.pathname += '_unmigrated';
    try {
      const starting = newWorker(backend, { databaseUrl: unmigrated.href }).start();
      await expect(starting).rejects.toThrow(SchemaOutdatedError);
      await expect(starting).rejects.toThrow(/lessor migrate/);
    } finally {
      await sql`drop database ${sql(unmigrated.pathname.slice(1))} with (force)`;
    }
  });
});

describe('createWorker', () => {
  const urls = { databaseUrl: 'postgres://localhost/x', queueUrl: 'redis://localhost' };

  test.for([
    ['databaseUrl', { databaseUrl: 'mysql://secret@host/x' }],
    ['queueUrl', { queueUrl: 'amqp://secret@host' }],
    ['concurrency', { concurrency: 0 }],
    ['sweepIntervalMs', { sweepIntervalMs: 2 ** 31 }],
    ['defaultTtlSeconds', { defaultTtlSeconds: 86_401 }],
  ] as const)('rejects a wrong %s by its name, without its value', ([name, wrong]) => {
    const create = () => createWorker({ ...urls, ...wrong });
    expect(create).toThrow(InvalidConfigurationError);
    expect(create).toThrow(name);
    expect(create).not.toThrow(/secret/);
  });
});
