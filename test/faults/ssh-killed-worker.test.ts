import { spawn } from 'node:child_process';
import type { Sql } from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { migrateQueue } from '../../src/queues/backends/postgres.ts';
import { LEASE_DIRECTORY_VARIABLE } from '../../src/ssh/lease-directory.ts';
import { openProducer } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, runFinished, runStarted } from '../support/factories.ts';
import { eventsOf } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { describeOnSshd, openSshHost } from '../support/ssh-host.ts';
import { until } from '../../testing/until.ts';

/**
 * The commits of the start, of the begin of its acquisition and of its result, with a script on the host in between; the
 * commits of the end, of the begin of the cleanup and of its result, with another script in between.
 */
const STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

const FLAGS = ['--enable-environments', 'true', '--lock-duration', '1s', '--sweep-interval', '300ms'];

interface Lease {
  id: string;
  status: string;
  provider_lease_id: string | null;
}

describeOnSshd('on an SSH host', () => {
  describeOnEachBackend(
    'a worker that is killed between two steps of a lease on an SSH host',
    (backend) => {
      const { database } = backend;

      const leaseOf = async (runId: string): Promise<Lease | undefined> => {
        const [lease] = await database.sql<Lease[]>`
        select id, status, provider_lease_id from lessor.environment_leases where heartbeat_run_id = ${runId}`;
        return lease;
      };

      test.for(STEPS)(
        'no-leak: a worker killed at step %i leaves nothing on the host, and no live lease after a sweep',
        async (step) => {
          const host = await openSshHost();
          const companyId = await insertCompany(database.sql);
          const { config } = host;
          const agent = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'host', config });
          const run = runStarted({ companyId, environment: { agent } });
          const doomed = spawnWorker(backend, FLAGS, {
            env: { CRASH_ON_RUN: run.runId, CRASH_AT_STEP: String(step) },
            preloads: [new URL('./crash-at-step.ts', import.meta.url)],
          });
          await doomed.untilLogged('worker started');

          const producer = openProducer(backend);
          await producer.runStarted(run);
          const isActive = async () => (await leaseOf(run.runId))?.status === 'active';
          const isDead = async () => doomed.log().includes(`step ${step}:`);
          await until(async () => (await isActive()) || (await isDead()), { what: 'an active lease or the crash' });
          const wasActive = await isActive();
          if (wasActive) leaveRunning((await leaseOf(run.runId))!);
          await producer.runFinished(runFinished(run));
          expect(await doomed.ended).toBe('SIGKILL');

          spawnWorker(backend, FLAGS);
          await until(
            async () => {
              await letTimePass(database.sql, run.runId);
              return (await leaseOf(run.runId))?.status === 'released';
            },
            { timeoutMs: 60_000, what: 'the lease being released' },
          );
          expect(await host.leftByLeases()).toEqual([]);
          const events = await eventsOf(database.sql, companyId);
          expect(events).toEqual(events.length === 1 ? ['lease_released'] : ['lease_acquired', 'lease_released']);
          expect(events).toHaveLength(wasActive ? 2 : events.length);
        },
      );
    },
    { audited: true },
  );
});

describeOnSshd('the steps of a lease on an SSH host', () => {
  const database = useDatabase({ audited: true });

  test('are the ones at which a worker is killed above, and no others', async () => {
    const stores = { database, queueUrl: database.url, prefix: 'steps' };
    const host = await openSshHost();
    const companyId = await insertCompany(database.sql);
    const agent = await insertEnvironment(database.sql, {
      companyId,
      driver: 'ssh',
      name: 'host',
      config: host.config,
    });
    const run = runStarted({ companyId, environment: { agent } });
    await migrateQueue(database.url);
    const worker = spawnWorker(stores, FLAGS, {
      env: { CRASH_ON_RUN: run.runId, CRASH_AT_STEP: '0' },
      preloads: [new URL('./crash-at-step.ts', import.meta.url)],
    });
    const producer = openProducer(stores);
    await producer.runStarted(run);
    await producer.waitForLease(run.runId);
    await producer.runFinished(runFinished(run));
    await worker.untilLogged(`step ${STEPS.length}:`);
    worker.kill('SIGTERM');
    expect(await worker.ended).toBe(0);
    expect(worker.log()).not.toContain(`step ${STEPS.length + 1}:`);
  });
});

/** Starts a process on the host that outlives the run of the lease. */
function leaveRunning({ provider_lease_id: place }: Lease): void {
  const child = spawn('sleep', ['600'], {
    detached: true,
    stdio: 'ignore',
    env: { [LEASE_DIRECTORY_VARIABLE]: place! },
  });
  child.unref();
  onTestFinished(() => void child.kill('SIGKILL'));
}

/** Backdates the lease, instead of waiting: its acquisition has timed out, and its release job is overdue. */
async function letTimePass(sql: Sql, runId: string): Promise<void> {
  await sql`
    update lessor.environment_leases set
      acquiring_until = acquiring_until - interval '2 min',
      updated_at = updated_at - interval '1 min'
    where heartbeat_run_id = ${runId} and status = 'pending_cleanup'`;
}
