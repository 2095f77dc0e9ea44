import { expect, onTestFinished, test } from 'vitest';
import { createOutbox } from '../../src/outbox/outbox.ts';
import { jobInState, openProducer, startWorker, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { readLease, eventsOf } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { NEVER_MS, jobsInOutbox, newRun, untilOutboxIsEmpty, writeEnd, writeStart } from './fixture.ts';

const outbox = createOutbox();

const TIMEOUT_MS = 60_000;

describeOnEachBackend(
  'from the outbox to the lease',
  (backend) => {
    const { database } = backend;
    const queue = useQueues(backend);

    test('a committed start is granted a lease and a committed end releases it, without waiting for a poll', async () => {
      await startWorker(backend, { outboxPollIntervalMs: NEVER_MS });
      const producer = openProducer(backend);
      const run = newRun();
      await writeStart(database, run);
      const lease = await producer.waitForLease(run.runId);
      expect(lease).toMatchObject({ ...run, status: 'active' });
      const { jobId } = await writeEnd(database, run);
      await jobInState(queue('run-finished'), jobId, 'completed');
      expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released' });
      expect(await eventsOf(database.sql, run.companyId)).toEqual(['created', 'lease_acquired', 'lease_released']);
    });

    test('a start and an end written in one transaction leave a finished run and no live lease', async () => {
      await startWorker(backend, { outboxPollIntervalMs: NEVER_MS });
      const run = newRun();
      const { jobId } = await database.db.transaction(async (tx) => {
        await outbox.runStarted(tx, run);
        return outbox.runFinished(tx, { ...run, status: 'cancelled' });
      });
      await jobInState(queue('run-finished'), jobId, 'completed');
      await jobInState(queue('run-started'), `${run.runId}-started`, 'completed');
      const [row] = await database.sql`select status from lessor.heartbeat_runs where id = ${run.runId}`;
      expect(row).toEqual({ status: 'cancelled' });
    });

    test('a start that is rolled back is never published', async () => {
      await startWorker(backend, { outboxPollIntervalMs: 20 });
      const producer = openProducer(backend);
      const [undone, later] = [newRun(), newRun()];
      const rollback = new Error('rolled back on purpose');
      const rolledBack = database.db.transaction(async (tx) => {
        await outbox.runStarted(tx, undone);
        throw rollback;
      });
      await expect(rolledBack).rejects.toBe(rollback);
      await writeStart(database, later);
      await producer.waitForLease(later.runId);
      expect(await jobsInOutbox(database)).toEqual([]);
      expect(await queue('run-started').getJob(`${undone.runId}-started`)).toBeUndefined();
      expect(await eventsOf(database.sql, undone.companyId)).toEqual([]);
    });

    test(
      'no-loss: a worker that is killed between publishing and its commit loses and doubles nothing',
      { timeout: TIMEOUT_MS },
      async () => {
        const allow = await stopDeletions();
        const doomed = spawnWorker(backend, ['--lock-duration', '1s']);
        await doomed.untilLogged('worker started');
        const run = newRun();
        const { jobId } = await writeStart(database, run);
        const job = await jobInState(queue('run-started'), jobId, 'completed');
        expect(await jobsInOutbox(database)).toEqual([jobId]);
        doomed.kill('SIGKILL');
        expect(await doomed.ended).toBe('SIGKILL');
        // As when the queue keeps finished jobs no longer: the id alone would make it once.
        await job.remove();

        await startWorker(backend, { lockDurationMs: 1_000, outboxPollIntervalMs: 50 });
        await allow();
        await untilOutboxIsEmpty(database);
        await jobInState(queue('run-started'), jobId, 'completed');
        const leases = await database.sql`
          select from lessor.environment_leases where heartbeat_run_id = ${run.runId}`;
        expect(leases).toHaveLength(1);
        expect(await eventsOf(database.sql, run.companyId)).toEqual(['created', 'lease_acquired']);
      },
    );

    /** Makes whoever takes something out of the outbox wait until the returned function is called, or the test ends. */
    async function stopDeletions(): Promise<() => Promise<void>> {
      await database.sql.unsafe(`
        create function wait_to_delete() returns trigger language plpgsql as $$ begin
          perform pg_advisory_xact_lock(1);
          return null;
        end $$;
        create trigger wait_to_delete before delete on lessor.outbox
          for each statement execute function wait_to_delete()`);
      const connection = await database.sql.reserve();
      await connection`select pg_advisory_lock(1)`;
      let stopped = true;
      const allow = async () => {
        if (!stopped) return;
        stopped = false;
        await connection`select pg_advisory_unlock(1)`;
        connection.release();
      };
      onTestFinished(async () => {
        await allow();
        await until(() => database.sql`drop function wait_to_delete cascade`);
      });
      return allow;
    }
  },
  { audited: true },
);
