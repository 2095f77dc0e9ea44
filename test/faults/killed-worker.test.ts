import { isDeepStrictEqual } from 'node:util';
import type { Sql } from 'postgres';
import { expect, test } from 'vitest';
import { lockCompany, untilBlocked, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, outcomeOnceServed } from './effects.ts';
import { SHORT_LOCKS, activeJobs, startInterruptedWorker } from './interrupted-worker.ts';
import type { InterruptedWorker } from './interrupted-worker.ts';
import { holdActivityLog } from './locks.ts';

/** Waits until something of what the worker has taken up stands in Postgres. */
const untilCommitted = (sql: Sql, { runIds, before }: InterruptedWorker) =>
  until(async () => !isDeepStrictEqual(await effectsOf(sql, runIds), before), { what: 'a commit' });

describeOnEachBackend('a worker that is killed', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  async function killed({ worker }: InterruptedWorker): Promise<void> {
    worker.kill('SIGKILL');
    expect(await worker.ended).toBe('SIGKILL');
    expect(await activeJobs(queue), 'jobs that nobody has acknowledged').toBe(20);
  }

  async function outcomeOnceTakenOver({ runIds }: InterruptedWorker) {
    spawnWorker(backend, SHORT_LOCKS);
    return outcomeOnceServed(queue, database.sql, runIds);
  }

  test('no-loss: before its transaction, what it had taken up is served by another one', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    interrupted.stores.databaseProxy.hold();
    await interrupted.publishUntilTakenUp();
    await killed(interrupted);
    expect(await effectsOf(database.sql, interrupted.runIds)).toEqual(interrupted.before);
    expect(await outcomeOnceTakenOver(interrupted)).toEqual({ ...interrupted.after, violations: [] });
  });

  test('no-loss: during its transaction, half of what it had written is undone and done again', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const release = await holdActivityLog(database.sql);
    await interrupted.publishUntilTakenUp();
    await untilBlocked(database.sql);
    await killed(interrupted);
    await release();
    expect(await outcomeOnceTakenOver(interrupted)).toEqual({ ...interrupted.after, violations: [] });
  });

  test('one-lease: after its commit and before the acknowledgement, nothing is doubled', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const release = await lockCompany(database.sql, interrupted.companyId);
    await interrupted.publishUntilTakenUp();
    await untilBlocked(database.sql);
    interrupted.stores.queueProxy.hold();
    await release();
    // Jobs that BullMQ has taken up but not begun stay so without the queue: what is committed need not be all.
    await untilCommitted(database.sql, interrupted);
    await killed(interrupted);
    expect(await outcomeOnceTakenOver(interrupted)).toEqual({ ...interrupted.after, violations: [] });
  });
});
