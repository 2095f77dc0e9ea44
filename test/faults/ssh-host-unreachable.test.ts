import { expect, test } from 'vitest';
import { createSshDriver } from '../../src/environments/drivers/ssh-driver.ts';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { openProducer, startWorker, useQueues } from '../consumers/fixture.ts';
import { insertCompany, insertEnvironment, runFinished, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { describeOnSshd, openSshHost } from '../support/ssh-host.ts';
import { until } from '../../testing/until.ts';

const RUNS = 20;

/** Quick retries, and no sweep that could do the work of a failed job. */
const workerSettings = (releaseAttempts: number) => ({
  enableEnvironments: true,
  drivers: [createSshDriver({ secrets: createSecretResolver({ env: {}, secretKey: undefined }) })],
  releaseAttempts,
  releaseBackoff: { initialMs: 200, maxMs: 1_000 },
  sweepIntervalMs: 3_600_000,
});

describeOnSshd('on an SSH host', () => {
  describeOnEachBackend(
    'an SSH host that is unreachable while runs finish',
    (backend) => {
      const { database } = backend;
      const queue = useQueues(backend);

      /** Runs with active leases on a host, and the state of these leases. */
      async function runsOnHost(releaseAttempts: number) {
        const host = await openSshHost();
        await startWorker(backend, workerSettings(releaseAttempts));
        const producer = openProducer(backend);
        const companyId = await insertCompany(database.sql);
        const { config } = host;
        const agent = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'host', config });
        const runs = Array.from({ length: RUNS }, () => runStarted({ companyId, environment: { agent } }));
        await Promise.all(runs.map((run) => producer.runStarted(run)));
        const leases = await Promise.all(runs.map(({ runId }) => producer.waitForLease(runId)));
        expect((await host.leftByLeases()).toSorted()).toEqual(leases.map(({ id }) => id).toSorted());

        const rows = () => database.sql<
          { status: string; cleanup_status: string; failure_reason: string; ended: string[] }[]
        >`
        select status, cleanup_status, failure_reason, array(
          select action from lessor.activity_log where entity_id = lease.id and action <> 'environment.lease_acquired'
        ) as ended
        from lessor.environment_leases lease where environment_id = ${agent}`;
        return {
          host,
          leases,
          rows,
          finish: () => Promise.all(runs.map((run) => producer.runFinished(runFinished(run)))),
          untilAll: (status: string) =>
            until(async () => (await rows()).every((row) => row.status === status), {
              timeoutMs: 60_000,
              what: `all leases being ${status}`,
            }),
        };
      }

      test('no-leak: all leases are released once the host is reachable, each recorded once, and nothing is left on it', async () => {
        const { host, finish, rows, untilAll } = await runsOnHost(1_000);
        await host.server.stop();
        await finish();
        await untilAll('pending_cleanup');
        await until(
          async () =>
            (await rows()).every(({ failure_reason }) => /release attempt \d+ failed: /.test(failure_reason ?? '')),
          { what: 'an attempt at every release' },
        );
        expect((await rows())[0]!.failure_reason).toContain('nobody listens there');

        await host.server.start();
        await untilAll('released');
        const released = { status: 'released', cleanup_status: 'success', ended: ['environment.lease_released'] };
        expect(await rows()).toMatchObject(Array.from({ length: RUNS }, () => ({ ...released, failure_reason: null })));
        expect(await host.leftByLeases()).toEqual([]);
      });

      test('always-explained: all leases fail while the host stays unreachable, until their jobs are retried', async () => {
        const { host, leases, finish, rows, untilAll } = await runsOnHost(3);
        await host.server.stop();
        await finish();
        await untilAll('failed');
        expect(await rows()).toMatchObject(
          Array.from({ length: RUNS }, () => ({
            cleanup_status: 'failed',
            failure_reason: expect.stringMatching(/^release attempt 3 failed: .*nobody listens there/),
            ended: ['environment.lease_release_failed'],
          })),
        );
        await until(async () => (await queue('lease-release').getFailedCount()) === RUNS, { what: 'every job failed' });
        expect(await host.leftByLeases()).toHaveLength(RUNS);

        await host.server.start();
        for (const { id } of leases) {
          const job = await queue('lease-release').getJob(`${id}-release`);
          await job!.retry();
        }
        await untilAll('released');
        expect(await host.leftByLeases()).toEqual([]);
      });
    },
    { audited: true },
  );
});
