import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { MAXIMUM_REASON_LENGTH } from '../../src/contracts/index.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import {
  countLeases,
  lockCompany,
  jobInState,
  openProducer,
  rejectRun,
  startWorker,
  untilBlocked,
  useQueues,
} from './fixture.ts';
import { spawnWorker } from './processes.ts';

describeOnEachBackend(
  'a job that fails',
  (backend) => {
    const { database } = backend;
    const queue = useQueues(backend);

    test('isolated: an operation that Postgres rejects fails alone, and its batch succeeds', async () => {
      const companyId = await insertCompany(database.sql);
      const payloads = Array.from({ length: 10 }, () => runStarted({ companyId }));
      const offending = payloads[4]!.runId;
      await rejectRun(database.sql, offending, 'P0001');
      // All are waiting when the worker starts, so they form one batch.
      for (const data of payloads) await queue('run-started').add('run-started', data, { jobId: `job-${data.runId}` });
      await startWorker(backend);

      for (const { runId } of payloads.filter((payload) => payload.runId !== offending)) {
        const job = await jobInState(queue('run-started'), `job-${runId}`, 'completed');
        expect(job.attemptsMade).toBe(1);
      }
      const job = await jobInState(queue('run-started'), `job-${offending}`, 'failed');
      expect(job).toMatchObject({ failedReason: 'not_storable: rejected by a trigger (P0001)', attemptsMade: 1 });
      expect(await countLeases(database.sql, [companyId])).toEqual({ locals: 1, leases: 9, runs: 9, acquired: 9 });
    });

    test('always-explained: an error of one megabyte is truncated in the job and in the activity log', async () => {
      const companyId = await insertCompany(database.sql);
      const data = runStarted({ companyId });
      await rejectRun(database.sql, data.runId, 'P0001', { message: `too long: ${'x'.repeat(1_000_000)}` });
      await startWorker(backend);
      await queue('run-started').add('run-started', data, { jobId: `job-${data.runId}` });
      const { failedReason } = await jobInState(queue('run-started'), `job-${data.runId}`, 'failed');
      const [event] = await database.sql<[{ reason: string }]>`
        select details->>'reason' as reason from lessor.activity_log where run_id = ${data.runId}`;
      for (const text of [failedReason, event.reason]) {
        expect(text).toContain('too long: xxx');
        expect(text.length).toBeLessThan(MAXIMUM_REASON_LENGTH + 100);
      }
    });

    test('no-loss: a job of a non-Node client without attempts is retried after a transient error', async () => {
      const data = runStarted();
      await rejectRun(database.sql, data.runId, '40001', { times: 2 });
      await startWorker(backend);
      await queue('run-started').add('run-started', data, { jobId: `job-${data.runId}` });
      const job = await jobInState(queue('run-started'), `job-${data.runId}`, 'completed', 'failed');
      expect(job.returnvalue).toMatchObject({ runId: data.runId, status: 'active' });
      expect(job.attemptsMade).toBe(3);
      expect(await countLeases(database.sql, [data.companyId])).toEqual({ locals: 1, leases: 1, runs: 1, acquired: 1 });
    });

    test('no-loss: an outage of Postgres does not count as an attempt', async () => {
      const data = runStarted();
      // 57P01 is admin_shutdown.
      await rejectRun(database.sql, data.runId, '57P01', { times: 2 });
      await startWorker(backend);
      await queue('run-started').add('run-started', data, { jobId: `job-${data.runId}`, attempts: 1 });
      const job = await jobInState(queue('run-started'), `job-${data.runId}`, 'completed', 'failed');
      expect(job.returnvalue).toMatchObject({ runId: data.runId, status: 'active' });
      expect(job.attemptsMade).toBe(1);
    });

    test('no-loss: a worker whose connections to Postgres are terminated completes the jobs in flight', async () => {
      const { sql } = database;
      const companyId = await insertCompany(sql);
      const release = await lockCompany(sql, companyId);
      const worker = spawnWorker(backend, ['--replica', 'cut']);
      await worker.untilLogged('worker started');
      const data = Array.from({ length: 20 }, () => runStarted({ companyId }));
      for (const payload of data) {
        await queue('run-started').add('run-started', payload, { jobId: `job-${payload.runId}` });
      }
      await untilBlocked(sql);
      await sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'lessor worker cut'`;
      await release();
      const completed = Promise.all(
        data.map(({ runId }) => jobInState(queue('run-started'), `job-${runId}`, 'completed', 'failed')),
      );
      const died = worker.ended.then((exit) => {
        throw new Error(`the worker ended with ${exit}:\n${worker.log()}`);
      });
      const jobs = await Promise.race([completed, died]);
      expect(jobs).toMatchObject(data.map(({ runId }) => ({ attemptsMade: 1, returnvalue: { runId } })));
      expect(await countLeases(sql, [companyId])).toEqual({ locals: 1, leases: 20, runs: 20, acquired: 20 });
    });
  },
  { audited: true },
);

/** Two runs of a company that need the same execution workspace. */
function holderAndWaiter() {
  const shared = { companyId: randomUUID(), executionWorkspaceId: randomUUID() };
  return [
    { ...shared, runId: randomUUID() },
    { ...shared, runId: randomUUID() },
  ] as const;
}

describeOnEachBackend(
  'single-flight: a run whose execution workspace is held',
  (backend) => {
    const queue = useQueues(backend);

    test('waits, which does not count as an attempt, and gets its lease once the workspace is released', async () => {
      await startWorker(backend);
      const producer = openProducer(backend);
      const [holder, waiter] = holderAndWaiter();
      await producer.runStarted(holder);
      const held = await producer.waitForLease(holder.runId);
      const { jobId } = await producer.runStarted(waiter);
      const waiting = await jobInState(queue('run-started'), jobId, 'delayed');
      expect(waiting.failedReason ?? null).toBeNull();
      expect(waiting.attemptsMade).toBe(0);
      expect(waiting.progress).toMatchObject({
        heldBy: { runId: holder.runId, executionWorkspaceId: holder.executionWorkspaceId },
      });

      await producer.runFinished({ companyId: holder.companyId, runId: holder.runId, status: 'succeeded' });
      const lease = await producer.waitForLease(waiter.runId);
      expect(lease.fencingToken).toBeGreaterThan(held.fencingToken);
      const job = await jobInState(queue('run-started'), jobId, 'completed');
      expect(job.attemptsMade).toBe(1);
    });

    test('isolated: does not delay the other runs of its company', async () => {
      await startWorker(backend);
      const producer = openProducer(backend);
      const [holder, waiter] = holderAndWaiter();
      await producer.runStarted(holder);
      await producer.waitForLease(holder.runId);
      await producer.runStarted(waiter);
      const other = { companyId: holder.companyId, runId: randomUUID() };
      await producer.runStarted(other);
      expect(await producer.waitForLease(other.runId)).toMatchObject({ status: 'active' });
    });

    test('adopts the workspace of a silent holder once its lease expires, without the sweep', async () => {
      await startWorker(backend, { sweepIntervalMs: 3_600_000 });
      const producer = openProducer(backend);
      const [holder, waiter] = holderAndWaiter();
      await producer.runStarted({ ...holder, ttlSeconds: 1 });
      const expiring = await producer.waitForLease(holder.runId);
      await producer.runStarted(waiter);
      const lease = await producer.waitForLease(waiter.runId);
      expect(Date.parse(lease.acquiredAt)).toBeGreaterThanOrEqual(Date.parse(expiring.expiresAt));
    });
  },
  { audited: true },
);

describeOnEachBackend('single-flight: a run whose execution workspace stays held', (backend) => {
  const queue = useQueues(backend);

  test('is rejected after the longest wait with the id of the holder, and recorded once', async () => {
    const { sql } = backend.database;
    await startWorker(backend, { leaseWaitMs: 400 });
    const producer = openProducer(backend);
    const shared = { companyId: randomUUID(), executionWorkspaceId: randomUUID() };
    const holder = randomUUID();
    const waiter = randomUUID();
    await producer.runStarted({ ...shared, runId: holder });
    await producer.waitForLease(holder);
    const { jobId } = await producer.runStarted({ ...shared, runId: waiter });
    const job = await jobInState(queue('run-started'), jobId, 'failed');
    expect(job.failedReason).toMatch(new RegExp(`^workspace_held: .* is held by run ${holder} since `));
    expect(job.attemptsMade).toBe(1);
    await expect(producer.waitForLease(waiter)).rejects.toMatchObject({ code: 'workspace_held' });
    const rejections = await sql`
        select details from lessor.activity_log where run_id = ${waiter} and action = 'environment.lease_denied'`;
    expect(rejections).toMatchObject([{ details: { code: 'workspace_held' } }]);
  });
});
