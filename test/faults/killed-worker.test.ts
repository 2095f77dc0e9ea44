import { isDeepStrictEqual } from 'node:util';
import type { Sql } from 'postgres';
import { expect, test } from 'vitest';
import { lockCompany, untilBlocked, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, outcomeOnceCompleted } from './effects.ts';
import { SHORT_LOCKS, activeJobs, startInterruptedWorker } from './interrupted-worker-fixture.ts';
import type { InterruptedWorker } from './interrupted-worker-fixture.ts';
import { holdActivityLog } from './locks.ts';

/** Waits until the effects of some active jobs are committed. */
const untilCommitted = (sql: Sql, { runIds, before }: InterruptedWorker) =>
  until(async () => !isDeepStrictEqual(await effectsOf(sql, runIds), before), { what: 'a commit' });

describeOnEachBackend('a worker that is killed', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  async function killed({ worker }: InterruptedWorker): Promise<void> {
    worker.kill('SIGKILL');
    expect(await worker.ended).toBe('SIGKILL');
    expect(await activeJobs(queue), 'unacknowledged jobs').toBe(20);
  }

  async function outcomeOfSuccessor({ runIds }: InterruptedWorker) {
    spawnWorker(backend, SHORT_LOCKS);
    return outcomeOnceCompleted(queue, database.sql, runIds);
  }

  test('no-loss: its jobs are processed by another worker when it dies before its transaction', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    interrupted.stores.databaseProxy.hold();
    await interrupted.publishUntilActive();
    await killed(interrupted);
    expect(await effectsOf(database.sql, interrupted.runIds)).toEqual(interrupted.before);
    expect(await outcomeOfSuccessor(interrupted)).toEqual({ ...interrupted.after, violations: [] });
  });

  test('no-loss: its transaction is rolled back and its jobs are processed again when it dies during the transaction', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const release = await holdActivityLog(database.sql);
    await interrupted.publishUntilActive();
    await untilBlocked(database.sql);
    await killed(interrupted);
    await release();
    expect(await outcomeOfSuccessor(interrupted)).toEqual({ ...interrupted.after, violations: [] });
  });

  test('one-lease: no effect is duplicated when it dies after its commit and before the acknowledgement', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const release = await lockCompany(database.sql, interrupted.companyId);
    await interrupted.publishUntilActive();
    await untilBlocked(database.sql);
    interrupted.stores.queueProxy.hold();
    await release();
    // Jobs that BullMQ has fetched but not started stay so without the queue: not all need be committed.
    await untilCommitted(database.sql, interrupted);
    await killed(interrupted);
    expect(await outcomeOfSuccessor(interrupted)).toEqual({ ...interrupted.after, violations: [] });
  });
});
