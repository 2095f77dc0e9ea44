import { expect, onTestFinished, test } from 'vitest';
import { LostReleases } from '../../../src/consumers/sweep/sweep.ts';
import { openQueues } from '../../../src/queues/queues.ts';
import { ReleaseJobs } from '../../../src/queues/release-jobs.ts';
import { insertCompany, insertEnvironment, insertLease } from '../../support/factories.ts';
import type { LeaseRow } from '../../support/factories.ts';
import { readLease, eventsOf } from '../../support/operations.ts';
import { describeOnEachBackend } from '../../support/queues.ts';
import type { Backend } from '../../support/queues.ts';
import { until } from '../../../testing/until.ts';
import { jobInState, silentLogger, startWorker, useQueues } from '../fixture.ts';

/** Longer than the tests: only the tests sweep. */
const NO_SWEEP = { sweepIntervalMs: 3_600_000 };

describeOnEachBackend(
  'the release of a lease that waits for its cleanup',
  (backend) => {
    const { database } = backend;
    const queue = useQueues(backend);

    /** A lease that has waited for its cleanup for a minute. */
    async function waitingLease(lease: Partial<LeaseRow> = {}) {
      const companyId = await insertCompany(database.sql);
      const environmentId = await insertEnvironment(database.sql, { companyId });
      const row = { companyId, environmentId, status: 'pending_cleanup', cleanupStatus: 'pending', ...lease } as const;
      const leaseId = await insertLease(database.sql, row);
      await waitedFor(leaseId, 60);
      return { companyId, leaseId, jobId: `${leaseId}-release`, payload: { version: 1, companyId, leaseId } };
    }

    const waitedFor = (leaseId: string, seconds: number) => database.sql`
      update lessor.environment_leases set updated_at = now() - make_interval(secs => ${seconds}) where id = ${leaseId}`;

    const statusOf = async (leaseId: string) => (await readLease(database.sql, leaseId)).status;

    /** Checks once for a lost job, of the lease of the test only. */
    async function sweep(leaseId: string): Promise<number> {
      await database.sql`
        update lessor.environment_leases set updated_at = now() where status = 'pending_cleanup' and id <> ${leaseId}`;
      return openLostReleases(backend).sweep();
    }

    test('no-leak: is published again by the sweep when the queue has lost its job, and recorded once', async () => {
      const { companyId, leaseId, jobId, payload } = await waitingLease();
      await queue('lease-release').add('lease-release', payload, { jobId });
      await queue('lease-release').remove(jobId);
      await startWorker(backend, { sweepIntervalMs: 200 });

      const job = await jobInState(queue('lease-release'), jobId, 'completed');
      expect(job.returnvalue).toEqual({ leaseId, status: 'released' });
      expect(await readLease(database.sql, leaseId)).toMatchObject({ status: 'released', cleanup_status: 'success' });
      expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', 'lease_released']);
      const requeued = async () => {
        const sweeps = await queue('lease-sweep').getCompleted();
        return sweeps.map(({ returnvalue }) => (returnvalue as { requeued: number }).requeued);
      };
      await until(async () => (await requeued()).includes(1), { what: 'a sweep that requeued a job' });
    });

    test('is published again with the retry policy of the queue', async () => {
      const { leaseId, jobId, payload } = await waitingLease();
      expect(await sweep(leaseId)).toBe(1);
      const job = await jobInState(queue('lease-release'), jobId, 'waiting');
      expect(job.data).toEqual(payload);
      expect(job.opts).toMatchObject({ attempts: 12, backoff: { type: 'capped' } });
      expect(await sweep(leaseId)).toBe(0);
    });

    test('is not looked up within 30 seconds, while its job may be in flight', async () => {
      const { leaseId, jobId } = await waitingLease();
      await waitedFor(leaseId, 20);
      expect(await sweep(leaseId)).toBe(0);
      expect(await queue('lease-release').getJobState(jobId)).toBe('unknown');
    });

    test('is unchanged while its job is delayed', async () => {
      const { leaseId, jobId, payload } = await waitingLease();
      await queue('lease-release').add('lease-release', payload, { jobId, delay: 3_600_000 });
      expect(await sweep(leaseId)).toBe(0);
      expect(await queue('lease-release').getJobState(jobId)).toBe('delayed');
    });

    test('is unchanged when its job has failed, which an operator retries', async () => {
      const { leaseId, jobId, payload } = await waitingLease();
      await startWorker(backend, NO_SWEEP);
      await queue('lease-release').add('lease-release', { ...payload, surplus: true }, { jobId });
      const failed = await jobInState(queue('lease-release'), jobId, 'failed');
      expect(failed.failedReason).toMatch(/^invalid_payload: .*surplus/s);
      expect(await sweep(leaseId)).toBe(0);
      expect(await queue('lease-release').getJobState(jobId)).toBe('failed');
      expect(await statusOf(leaseId)).toBe('pending_cleanup');
    });

    test('no-leak: is published again when its job completed without cleaning up', async () => {
      const { companyId, leaseId, jobId, payload } = await waitingLease({ status: 'active', cleanupStatus: null });
      await startWorker(backend, NO_SWEEP);
      await queue('lease-release').add('lease-release', payload, { jobId });
      const early = await jobInState(queue('lease-release'), jobId, 'completed');
      expect(early.returnvalue).toEqual({ leaseId, status: 'active' });
      await database.sql`
        update lessor.environment_leases set status = 'pending_cleanup', cleanup_status = 'pending',
          updated_at = now() - interval '60 s'
        where id = ${leaseId}`;

      expect(await sweep(leaseId)).toBe(1);
      await until(async () => (await statusOf(leaseId)) === 'released', { what: 'the lease being released' });
      expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired', 'lease_released']);
    });

    test('is retried when the worker lacks the driver of the provider, with a reason that names it', async () => {
      const { companyId, leaseId, jobId } = await waitingLease({ provider: 'daytona' });
      await startWorker(backend, NO_SWEEP);
      expect(await sweep(leaseId)).toBe(1);
      const job = await until(
        async () => {
          const found = await queue('lease-release').getJob(jobId);
          return found?.failedReason ? found : undefined;
        },
        { what: 'the first attempt having failed' },
      );
      const reason = `lease ${leaseId} needs the driver daytona, which this worker lacks`;
      expect(job.failedReason).toBe(reason);
      expect(['delayed', 'waiting', 'active']).toContain(await queue('lease-release').getJobState(jobId));
      expect(await sweep(leaseId)).toBe(0);
      expect(await readLease(database.sql, leaseId)).toMatchObject({
        status: 'pending_cleanup',
        failure_reason: `release attempt 1 failed: ${reason}`,
      });
      expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired']);
    });
  },
  { audited: true },
);

/** The part of the sweep that publishes lost jobs again, on the queues of a suite. */
function openLostReleases({ queueUrl, prefix, database }: Backend): LostReleases {
  const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: () => undefined });
  const releaseJobs = new ReleaseJobs(queues);
  onTestFinished(async () => {
    await releaseJobs.close();
    await queues.close();
  });
  return new LostReleases({ db: database.db, logger: silentLogger, releaseJobs, batchSize: 500 });
}
