import { expect, test } from 'vitest';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { countLeases, lockCompany, jobInState, startWorker, untilBlocked, useQueues } from './fixture.ts';
import type { WorkerOverrides } from './fixture.ts';
import { spawnWorker } from './processes.ts';

/** How much longer than its deadline closing may take: giving jobs back, and a machine that is busy. */
const CLOSING_MARGIN_MS = 5_000;

const TIMEOUT_MS = 40_000;

/** Of all workers here: on Redis a takeover waits for the interval of whoever looked for dead ones last. */
const LOCK_DURATION_MS = 1_000;

describeOnEachBackend(
  'a worker that is told to stop',
  (backend) => {
    const sql = () => backend.database.sql;
    const queue = useQueues(backend);

    const start = (overrides: WorkerOverrides = {}) =>
      startWorker(backend, { lockDurationMs: LOCK_DURATION_MS, ...overrides });

    /** A job that a worker has taken up, and that hangs until its company is released. */
    async function hangingJob(startTaking: () => Promise<unknown>) {
      const companyId = await insertCompany(sql());
      const release = await lockCompany(sql(), companyId);
      await startTaking();
      const data = runStarted({ companyId });
      const jobId = `job-${data.runId}`;
      await queue('run-started').add('run-started', data, { jobId });
      await jobInState(queue('run-started'), jobId, 'active');
      await untilBlocked(sql());
      return { companyId, jobId, release };
    }

    const granted = { locals: 1, leases: 1, runs: 1, acquired: 1 };

    test('lets jobs under way finish', async () => {
      let close: (() => Promise<void>) | undefined;
      const { companyId, jobId, release } = await hangingJob(async () => {
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

    test('takes no more jobs', async () => {
      const worker = await start();
      await worker.close();
      const data = runStarted();
      await queue('run-started').add('run-started', data, { jobId: `job-${data.runId}` });
      expect(await queue('run-started').getJobState(`job-${data.runId}`)).toBe('waiting');
      await start();
      await jobInState(queue('run-started'), `job-${data.runId}`, 'completed');
    });

    test('no-loss: past its deadline gives jobs back, which spend no attempt and are served by the next one', async () => {
      const shutdownTimeoutMs = 300;
      let close: (() => Promise<void>) | undefined;
      const { companyId, jobId, release } = await hangingJob(async () => {
        const worker = await start({ shutdownTimeoutMs });
        close = () => worker.close();
      });
      const before = performance.now();
      await close!();
      expect(performance.now() - before).toBeLessThan(shutdownTimeoutMs + CLOSING_MARGIN_MS);
      const givenBack = await jobInState(queue('run-started'), jobId, 'waiting');
      expect(givenBack.attemptsMade).toBe(0);

      await release();
      await start();
      const job = await jobInState(queue('run-started'), jobId, 'completed');
      expect(job.attemptsMade).toBe(1);
      expect(await countLeases(sql(), [companyId])).toEqual(granted);
    });

    test('by SIGTERM, finishes what is under way and exits with 0', { timeout: TIMEOUT_MS }, async () => {
      const worker = spawnWorker(backend, ['--lock-duration', `${LOCK_DURATION_MS}ms`]);
      const { companyId, jobId, release } = await hangingJob(() => worker.untilLogged('worker started'));
      worker.kill('SIGTERM');
      await worker.untilLogged('worker stops');
      await release();
      expect(await worker.ended).toBe(0);
      expect(worker.log()).toContain('worker stopped');
      expect(worker.log()).not.toContain('Warning');
      await jobInState(queue('run-started'), jobId, 'completed');
      expect(await countLeases(sql(), [companyId])).toEqual(granted);
    });

    test('by a second signal, ends at once, and what was under way is not lost', { timeout: TIMEOUT_MS }, async () => {
      const worker = spawnWorker(backend, ['--lock-duration', `${LOCK_DURATION_MS}ms`, '--shutdown-timeout', '1h']);
      const { companyId, jobId, release } = await hangingJob(() => worker.untilLogged('worker started'));
      worker.kill('SIGTERM');
      await worker.untilLogged('worker stops');
      worker.kill('SIGINT');
      expect(await worker.ended).toBe(130);
      await release();
      await start();
      await jobInState(queue('run-started'), jobId, 'completed');
      expect(await countLeases(sql(), [companyId])).toEqual(granted);
    });
  },
  { audited: true },
);
