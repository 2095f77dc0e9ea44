import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { EnvironmentFailedError } from '../../src/contracts/index.ts';
import { companyWithDirectories, withDirectories } from '../consumers/driver-fixture.ts';
import { jobInState, openProducer, startWorker, useQueues } from '../consumers/fixture.ts';
import { useDatabase } from '../support/database.ts';
import { directoryDriver } from '../support/directory-driver.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun, runFinished } from '../support/factories.ts';
import type { LeaseRow } from '../support/factories.ts';
import { readLease, eventsOf } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { lessor } from './lessor.ts';

const HOST_IS_DOWN = new EnvironmentFailedError('environment_unreachable', 'the host is down');

/** Two attempts in quick succession, and no sweep that could release the lease before the command does. */
const FAST_RELEASES = { releaseBackoff: { initialMs: 10, maxMs: 20 }, releaseAttempts: 2, sweepIntervalMs: 3_600_000 };

describeOnEachBackend('`lessor leases retry-release`', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);
  const env = { DATABASE_URL: database.url, QUEUE_URL: backend.queueUrl, QUEUE_PREFIX: backend.prefix };
  const retryRelease = (...args: string[]) => lessor(['leases', 'retry-release', ...args], { env });

  /** A lease of an ended run. */
  async function lease(row: Partial<LeaseRow> = {}) {
    const companyId = await insertCompany(database.sql);
    const environmentId = await insertEnvironment(database.sql, { companyId, driver: 'sandbox', name: 'box' });
    const runId = await insertRun(database.sql, { companyId, status: 'succeeded' });
    return insertLease(database.sql, { companyId, environmentId, runId, provider: 'sandbox', ...row });
  }

  test('retries a release that failed permanently, and the lease is released', async () => {
    let isDown = true;
    const release: typeof directoryDriver.release = (request, call) =>
      isDown ? Promise.reject(HOST_IS_DOWN) : directoryDriver.release(request, call);
    await startWorker(backend, { ...withDirectories({ release }), ...FAST_RELEASES });
    const producer = openProducer(backend);
    const company = await companyWithDirectories(backend);
    const run = company.run();
    await producer.runStarted(run);
    const { id } = await producer.waitForLease(run.runId);
    await producer.runFinished(runFinished(run));
    await jobInState(queue('lease-release'), `${id}-release`, 'failed');
    expect(await company.directories()).toEqual([id]);

    isDown = false;
    expect(await retryRelease(id.toUpperCase())).toEqual({
      exit: 0,
      stdout: `job ${id}-release retries the release of lease ${id}\n`,
      stderr: '',
    });
    await until(async () => (await readLease(database.sql, id)).status === 'released', { what: 'the release' });
    expect(await company.directories()).toEqual([]);
    expect(await eventsOf(database.sql, company.companyId)).toEqual([
      'lease_acquired',
      'lease_release_failed',
      'lease_released',
    ]);
  });

  test('publishes a lost job with the number of attempts given, and does nothing while it waits', async () => {
    const id = await lease({ status: 'pending_cleanup', cleanupStatus: 'pending' });
    const first = await retryRelease(id, '--release-attempts', '3', '--json');
    expect(first).toMatchObject({ exit: 0, stderr: '' });
    expect(JSON.parse(first.stdout)).toEqual({ leaseId: id, jobId: `${id}-release`, retried: true });
    const job = await jobInState(queue('lease-release'), `${id}-release`, 'waiting');
    expect(job.opts.attempts).toBe(3);

    const second = await retryRelease(id);
    expect(second).toMatchObject({ exit: 0, stderr: '' });
    expect(second.stdout).toContain(`job ${id}-release is releasing lease ${id} already`);
    expect(JSON.parse((await retryRelease(id, '--json')).stdout)).toMatchObject({ retried: false });
  });

  test('runs a delayed job immediately', async () => {
    const id = await lease({ status: 'pending_cleanup', cleanupStatus: 'pending' });
    await retryRelease(id);
    const job = await queue('lease-release').getJob(`${id}-release`);
    await job!.remove();
    const data = job!.data as object;
    await queue('lease-release').add('lease-release', data, { jobId: `${id}-release`, delay: 3_600_000 });
    expect(JSON.parse((await retryRelease(id, '--json')).stdout)).toMatchObject({ retried: true });
    await jobInState(queue('lease-release'), `${id}-release`, 'waiting');
  });

  test.for<[what: string, row: Partial<LeaseRow>]>([
    ['active', { status: 'active' }],
    ['retained', { status: 'retained', cleanupStatus: 'pending' }],
    ['released', { status: 'released', cleanupStatus: 'success' }],
    ['failed', { status: 'failed', cleanupStatus: 'success', failureReason: 'exited with code 1' }],
  ])('rejects a lease that is %s, and publishes nothing', async ([status, row]) => {
    const id = await lease(row);
    const { exit, stdout, stderr } = await retryRelease(id);
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^error: lease ${id} is ${status}[^\\n]*pending_cleanup[^\\n]*\n$`));
    expect(await queue('lease-release').getJobState(`${id}-release`)).toBe('unknown');
  });

  test('rejects an unknown lease', async () => {
    const id = randomUUID();
    expect(await retryRelease(id)).toEqual({ exit: 1, stdout: '', stderr: `error: there is no lease ${id}\n` });
  });
});

describe('with an unreachable queue', () => {
  const database = useDatabase();

  test.for(['redis', 'postgres'])(
    'on %s, `lessor leases retry-release` reports it in one line without the password',
    async (protocol) => {
      const companyId = await insertCompany(database.sql);
      const environmentId = await insertEnvironment(database.sql, { companyId });
      const row = { companyId, environmentId, status: 'pending_cleanup', cleanupStatus: 'pending' } as const;
      const id = await insertLease(database.sql, row);
      const env = { DATABASE_URL: database.url, QUEUE_URL: `${protocol}://lessor:hunter2@127.0.0.1:1/0` };
      const { exit, stdout, stderr } = await lessor(['leases', 'retry-release', id], { env });
      expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
      expect(stderr).toMatch(/^error: [^\n]*QUEUE_URL[^\n]*\n$/);
      expect(stderr).not.toContain('hunter2');
    },
  );
});
