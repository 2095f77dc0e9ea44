import { EventEmitter, once } from 'node:events';
import { basename } from 'node:path';
import { expect, test } from 'vitest';
import { EnvironmentFailedError } from '../../src/contracts/index.ts';
import { directoryDriver } from '../support/directory-driver.ts';
import { runFinished, runStarted } from '../support/factories.ts';
import { readLease, eventsOf } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { companyWithDirectories, withDirectories } from './driver-fixture.ts';
import { jobInState, openProducer, startWorker, useQueues } from './fixture.ts';

const HOST_IS_DOWN = new EnvironmentFailedError('environment_unreachable', 'the host is down');

/** Short delays, and no sweep that could do what a job has failed to do. */
const SHORT_DELAYS = { releaseBackoff: { initialMs: 10, maxMs: 20 }, releaseAttempts: 3, sweepIntervalMs: 3_600_000 };

describeOnEachBackend(
  'a lease with effects outside Postgres',
  (backend) => {
    const { database } = backend;
    const queue = useQueues(backend);

    const untilLeaseIs = (leaseId: string, expected: object) =>
      until(
        async () => {
          const lease = await readLease(database.sql, leaseId);
          expect(lease).toMatchObject(expected);
          return lease;
        },
        { what: `lease ${leaseId} being ${JSON.stringify(expected)}` },
      );

    test('is acquired when its run starts and released when it ends', async () => {
      await startWorker(backend, withDirectories());
      const producer = openProducer(backend);
      const company = await companyWithDirectories(backend);
      const run = company.run();
      await producer.runStarted(run);
      const lease = await producer.waitForLease(run.runId);
      expect(await company.directories()).toEqual([lease.id]);
      expect(lease).toMatchObject({ config: { root: company.root }, environment: { driver: 'sandbox' } });
      expect(basename(lease.providerLeaseId!)).toBe(lease.id);

      await producer.runFinished(runFinished(run));
      await untilLeaseIs(lease.id, { status: 'released', cleanup_status: 'success' });
      expect(await company.directories()).toEqual([]);
      expect(await eventsOf(database.sql, company.companyId)).toEqual(['lease_acquired', 'lease_released']);
    });

    test('no-leak: is cleaned up by the sweep when its run goes silent', async () => {
      await startWorker(backend, { ...withDirectories(), sweepIntervalMs: 100 });
      const producer = openProducer(backend);
      const company = await companyWithDirectories(backend);
      const run = company.run({ ttlSeconds: 1 });
      await producer.runStarted(run);
      const lease = await producer.waitForLease(run.runId);
      await untilLeaseIs(lease.id, { status: 'expired', cleanup_status: 'success' });
      expect(await company.directories()).toEqual([]);
    });

    test('is granted once its environment answers again', async () => {
      let rejections = 2;
      const acquire: typeof directoryDriver.acquire = (request, call) => {
        rejections -= 1;
        return rejections >= 0 ? Promise.reject(HOST_IS_DOWN) : directoryDriver.acquire(request, call);
      };
      await startWorker(backend, withDirectories({ acquire }));
      const producer = openProducer(backend);
      const run = (await companyWithDirectories(backend)).run();
      await producer.runStarted(run);
      expect(await producer.waitForLease(run.runId)).toMatchObject({ status: 'active', failureReason: null });
    });

    test.for(['host_key_rejected', 'authentication_failed', 'secret_unavailable', 'workspace_unusable'] as const)(
      'is rejected on the first attempt with the code %s, recorded, and cleaned up',
      async (code) => {
        const acquire: typeof directoryDriver.acquire = async (request, call) => {
          await directoryDriver.acquire(request, call);
          throw new EnvironmentFailedError(code, 'as the driver says');
        };
        await startWorker(backend, withDirectories({ acquire }));
        const producer = openProducer(backend);
        const company = await companyWithDirectories(backend);
        const run = company.run();
        await producer.runStarted(run);
        await expect(producer.waitForLease(run.runId)).rejects.toMatchObject({ code, message: 'as the driver says' });
        await until(async () => (await company.directories()).length === 0, { what: 'an empty environment' });
        await until(async () => (await eventsOf(database.sql, company.companyId)).length === 2, {
          what: 'two activity events',
        });
        expect((await eventsOf(database.sql, company.companyId)).toSorted()).toEqual(['lease_denied', 'lease_failed']);
      },
    );

    test('no-leak: is cleaned up when its run ends while it is being acquired', async () => {
      const end = new EventEmitter();
      const ended = once(end, 'ended');
      const acquire: typeof directoryDriver.acquire = async (request, call) => {
        await ended;
        return directoryDriver.acquire(request, call);
      };
      await startWorker(backend, withDirectories({ acquire }));
      const producer = openProducer(backend);
      const company = await companyWithDirectories(backend);
      const run = company.run();
      await producer.runStarted(run);
      const [lease] = await until(
        () =>
          database.sql<[{ id: string }]>`select id from lessor.environment_leases
          where heartbeat_run_id = ${run.runId} and acquiring_until is not null`.then(
            (rows) => rows.length > 0 && rows,
          ),
        { what: 'the driver being called' },
      );
      await producer.runFinished(runFinished(run));
      await untilLeaseIs(lease.id, { status: 'pending_cleanup' });
      end.emit('ended');
      await expect(producer.waitForLease(run.runId)).rejects.toMatchObject({ code: 'run_ended' });
      await untilLeaseIs(lease.id, { status: 'released', cleanup_status: 'success' });
      expect(await company.directories()).toEqual([]);
      expect(await eventsOf(database.sql, company.companyId)).toEqual(['lease_released']);
    });

    test('is released once, by a retry, when its release fails', async () => {
      let failures = 2;
      const release: typeof directoryDriver.release = (request, call) => {
        failures -= 1;
        return failures >= 0 ? Promise.reject(HOST_IS_DOWN) : directoryDriver.release(request, call);
      };
      await startWorker(backend, { ...withDirectories({ release }), ...SHORT_DELAYS });
      const producer = openProducer(backend);
      const company = await companyWithDirectories(backend);
      const run = company.run();
      await producer.runStarted(run);
      const lease = await producer.waitForLease(run.runId);
      await producer.runFinished(runFinished(run));
      const released = await untilLeaseIs(lease.id, { status: 'released', failure_reason: null });
      expect(released.metadata).toMatchObject({ releaseAttempts: 2 });
      expect(await eventsOf(database.sql, company.companyId)).toEqual(['lease_acquired', 'lease_released']);
    });

    test('always-explained: is failed after the last release attempt, until its job is retried', async () => {
      let isDown = true;
      const release: typeof directoryDriver.release = (request, call) =>
        isDown ? Promise.reject(HOST_IS_DOWN) : directoryDriver.release(request, call);
      await startWorker(backend, { ...withDirectories({ release }), ...SHORT_DELAYS });
      const producer = openProducer(backend);
      const company = await companyWithDirectories(backend);
      const run = company.run();
      await producer.runStarted(run);
      const lease = await producer.waitForLease(run.runId);
      await producer.runFinished(runFinished(run));
      await untilLeaseIs(lease.id, {
        status: 'failed',
        cleanup_status: 'failed',
        failure_reason: 'release attempt 3 failed: the host is down',
      });
      const job = await jobInState(queue('lease-release'), `${lease.id}-release`, 'failed');
      expect(job.failedReason).toBe('the host is down');
      expect(await company.directories()).toEqual([lease.id]);

      isDown = false;
      await job.retry();
      await untilLeaseIs(lease.id, { status: 'released', cleanup_status: 'success', failure_reason: null });
      expect(await company.directories()).toEqual([]);
      expect(await eventsOf(database.sql, company.companyId)).toEqual([
        'lease_acquired',
        'lease_release_failed',
        'lease_released',
      ]);
    });

    test('isolated: an environment that does not answer delays neither Local runs nor other environments', async () => {
      const slow = await companyWithDirectories(backend);
      const acquire: typeof directoryDriver.acquire = (request, call) =>
        request.environment.id === slow.environmentId
          ? new Promise((_resolve, reject) => {
              call.signal.addEventListener('abort', () => reject(HOST_IS_DOWN), { once: true });
            })
          : directoryDriver.acquire(request, call);
      const settings = { concurrency: 6, driverConcurrency: 3, environmentConcurrency: 2, shutdownTimeoutMs: 100 };
      await startWorker(backend, { ...withDirectories({ acquire }), ...settings });
      const producer = openProducer(backend);
      await Promise.all(Array.from({ length: 20 }, () => producer.runStarted(slow.run())));

      const fast = (await companyWithDirectories(backend)).run();
      const locals = Array.from({ length: 20 }, () => runStarted({ companyId: slow.companyId }));
      await Promise.all([fast, ...locals].map((run) => producer.runStarted(run)));
      const leases = await Promise.all([fast, ...locals].map(({ runId }) => producer.waitForLease(runId)));
      expect(leases.map((lease) => lease.status)).toEqual(leases.map(() => 'active'));
    });

    test('is reused by the next run of its scope, with its contents', async () => {
      await startWorker(backend, withDirectories());
      const producer = openProducer(backend);
      const company = await companyWithDirectories(backend);
      const first = company.run({ leasePolicy: 'reuse_by_environment' });
      await producer.runStarted(first);
      const before = await producer.waitForLease(first.runId);
      await producer.runFinished(runFinished(first));
      await untilLeaseIs(before.id, { status: 'retained' });
      const second = company.run({ leasePolicy: 'reuse_by_environment' });
      await producer.runStarted(second);
      expect((await producer.waitForLease(second.runId)).providerLeaseId).toBe(before.providerLeaseId);
      expect(await company.directories()).toEqual([before.id]);
    });
  },
  { audited: true },
);
