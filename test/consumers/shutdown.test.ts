import { randomUUID } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { until } from '../../testing/until.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { countLeases, lockCompany, jobInState, newWorker, startWorker, untilBlocked, useQueues } from './fixture.ts';
import type { WorkerOverrides } from './fixture.ts';
import { spawnWorker } from './processes.ts';

/** How long closing may take after its timeout: requeuing jobs on a busy machine. */
const CLOSING_MARGIN_MS = 5_000;

const TIMEOUT_MS = 40_000;

/** On Redis, stalled-job recovery waits for the interval of the worker that checked last, so all have this one. */
const LOCK_DURATION_MS = 1_000;

describeOnEachBackend(
  'a worker that is closed',
  (backend) => {
    const sql = () => backend.database.sql;
    const queue = useQueues(backend);

    const start = (overrides: WorkerOverrides = {}) =>
      startWorker(backend, { lockDurationMs: LOCK_DURATION_MS, ...overrides });

    /** A job in flight that is blocked until its company is unlocked. */
    async function blockedJob(startReplica: () => Promise<unknown>) {
      const companyId = await insertCompany(sql());
      const release = await lockCompany(sql(), companyId);
      await startReplica();
      const data = runStarted({ companyId });
      const jobId = `job-${data.runId}`;
      await queue('run-started').add('run-started', data, { jobId });
      await jobInState(queue('run-started'), jobId, 'active');
      await untilBlocked(sql());
      return { companyId, jobId, release };
    }

    const granted = { locals: 1, leases: 1, runs: 1, acquired: 1 };

    test('completes the jobs in flight', async () => {
      let close: (() => Promise<void>) | undefined;
      const { companyId, jobId, release } = await blockedJob(async () => {
        const worker = await start();
        close = () => worker.close();
      });
      const closing = close!();
      await release();
      await closing;
      const job = await jobInState(queue('run-started'), jobId, 'completed');
      expect(job.attemptsMade).toBe(1);
      expect(await countLeases(sql(), [companyId])).toEqual(granted);
    });

    test.for([0, 1, 10, 100, 1_000, 10_000])(
      'keeps no connection to Postgres when it is closed %i turns of the event loop after its start began',
      async (turns) => {
        const replica = randomUUID();
        const worker = newWorker(backend, { replica });
        const started = Promise.allSettled([worker.start()]);
        for (let turn = 0; turn < turns; turn += 1) await nextTurn();
        await worker.close();
        await started;
        const connections = () => sql()`select from pg_stat_activity where application_name like ${`%${replica}`}`;
        await until(async () => (await connections()).length === 0, { what: 'the end of its connections' });
        expect(await connections()).toHaveLength(0);
      },
    );

    test('fetches no more jobs', async () => {
      const worker = await start();
      await worker.close();
      const data = runStarted();
      await queue('run-started').add('run-started', data, { jobId: `job-${data.runId}` });
      expect(await queue('run-started').getJobState(`job-${data.runId}`)).toBe('waiting');
      await start();
      await jobInState(queue('run-started'), `job-${data.runId}`, 'completed');
    });

    test('no-loss: requeues jobs after the shutdown timeout, which does not count as an attempt', async () => {
      const shutdownTimeoutMs = 300;
      let close: (() => Promise<void>) | undefined;
      const { companyId, jobId, release } = await blockedJob(async () => {
        const worker = await start({ shutdownTimeoutMs });
        close = () => worker.close();
      });
      const before = performance.now();
      await close!();
      expect(performance.now() - before).toBeLessThan(shutdownTimeoutMs + CLOSING_MARGIN_MS);
      const requeued = await jobInState(queue('run-started'), jobId, 'waiting');
      expect(requeued.attemptsMade).toBe(0);

      await release();
      await start();
      const job = await jobInState(queue('run-started'), jobId, 'completed');
      expect(job.attemptsMade).toBe(1);
      expect(await countLeases(sql(), [companyId])).toEqual(granted);
    });

    test('by SIGTERM completes the jobs in flight and exits with 0', { timeout: TIMEOUT_MS }, async () => {
      const worker = spawnWorker(backend, ['--lock-duration', `${LOCK_DURATION_MS}ms`]);
      const { companyId, jobId, release } = await blockedJob(() => worker.untilLogged('worker started'));
      worker.kill('SIGTERM');
      await worker.untilLogged('worker stopping');
      await release();
      expect(await worker.ended).toBe(0);
      expect(worker.log()).toContain('worker stopped');
      expect(worker.log()).not.toContain('Warning');
      await jobInState(queue('run-started'), jobId, 'completed');
      expect(await countLeases(sql(), [companyId])).toEqual(granted);
    });

    test(
      'no-loss: by a second signal exits immediately, and another worker completes the jobs in flight',
      { timeout: TIMEOUT_MS },
      async () => {
        const worker = spawnWorker(backend, ['--lock-duration', `${LOCK_DURATION_MS}ms`, '--shutdown-timeout', '1h']);
        const { companyId, jobId, release } = await blockedJob(() => worker.untilLogged('worker started'));
        worker.kill('SIGTERM');
        await worker.untilLogged('worker stopping');
        worker.kill('SIGINT');
        expect(await worker.ended).toBe(130);
        await release();
        await start();
        await jobInState(queue('run-started'), jobId, 'completed');
        expect(await countLeases(sql(), [companyId])).toEqual(granted);
      },
    );
  },
  { audited: true },
);
