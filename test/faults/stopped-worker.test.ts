import { expect, test } from 'vitest';
import { lockCompany, openProducer, untilBlocked, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import type { NodeProcess } from '../../testing/processes.ts';
import { runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { effectsOnce, outcomeOnceCompleted, untilAllCompleted, untilEffects } from './effects.ts';
import { SHORT_LOCKS, startInterruptedWorker } from './interrupted-worker-fixture.ts';
import type { InterruptedWorker } from './interrupted-worker-fixture.ts';
import { holdActivityLog } from './locks.ts';

describeOnEachBackend('a worker that is suspended for longer than its locks last, and resumed', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  /** Resumes the worker and kills its successor, so that the resumed worker has to process one more run. */
  async function processOneMore({ companyId, worker }: InterruptedWorker, successor: NodeProcess): Promise<void> {
    worker.kill('SIGCONT');
    successor.kill('SIGKILL');
    await successor.ended;
    const run = runStarted({ companyId });
    await openProducer(backend).runStarted(run);
    await untilEffects(database.sql, [run.runId], effectsOnce(1, 0));
  }

  test('one-lease: a job whose commit was not acknowledged is processed again by another worker, with one lease', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const { worker, stores, companyId, runIds, after } = interrupted;
    const release = await lockCompany(database.sql, companyId);
    await interrupted.publishUntilActive();
    await untilBlocked(database.sql);
    stores.queueProxy.hold();
    await release();
    await untilEffects(database.sql, runIds, after);
    worker.kill('SIGSTOP');

    const successor = spawnWorker(backend, SHORT_LOCKS);
    await untilAllCompleted(queue);
    stores.queueProxy.heal();
    await processOneMore(interrupted, successor);
    expect(await outcomeOnceCompleted(queue, database.sql, runIds)).toEqual({ ...after, violations: [] });
  });

  test('no-loss: a suspended transaction does not block the company for its successor indefinitely', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const { worker, runIds, after } = interrupted;
    const release = await holdActivityLog(database.sql);
    await interrupted.publishUntilActive();
    await untilBlocked(database.sql);
    worker.kill('SIGSTOP');

    const successor = spawnWorker(backend, SHORT_LOCKS);
    await successor.untilLogged('worker started');
    await release();
    await untilEffects(database.sql, runIds, after);
    await untilAllCompleted(queue);
    await processOneMore(interrupted, successor);
    expect(await outcomeOnceCompleted(queue, database.sql, runIds)).toEqual({ ...after, violations: [] });
  });
});
