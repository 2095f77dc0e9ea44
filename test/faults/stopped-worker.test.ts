import { expect, test } from 'vitest';
import { lockCompany, openProducer, untilBlocked, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import type { NodeProcess } from '../../testing/processes.ts';
import { runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { effectsOnce, outcomeOnceServed, untilAllServed, untilEffects } from './effects.ts';
import { SHORT_LOCKS, startInterruptedWorker } from './interrupted-worker.ts';
import type { InterruptedWorker } from './interrupted-worker.ts';
import { holdActivityLog } from './locks.ts';

describeOnEachBackend('a worker that is stopped for longer than its locks last, and goes on', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  /** Ends the successor, so that the worker that went on has to serve one more run of the company. */
  async function serveOneMore({ companyId, worker }: InterruptedWorker, successor: NodeProcess): Promise<void> {
    worker.kill('SIGCONT');
    successor.kill('SIGKILL');
    await successor.ended;
    const run = runStarted({ companyId });
    await openProducer(backend).runStarted(run);
    await untilEffects(database.sql, [run.runId], effectsOnce(1, 0));
  }

  test('one-lease: two workers on one job, as the first had not acknowledged its commit, come to one lease', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const { worker, stores, companyId, runIds, after } = interrupted;
    const release = await lockCompany(database.sql, companyId);
    await interrupted.publishUntilTakenUp();
    await untilBlocked(database.sql);
    stores.queueProxy.hold();
    await release();
    await untilEffects(database.sql, runIds, after);
    worker.kill('SIGSTOP');

    const successor = spawnWorker(backend, SHORT_LOCKS);
    await untilAllServed(queue);
    stores.queueProxy.heal();
    await serveOneMore(interrupted, successor);
    expect(await outcomeOnceServed(queue, database.sql, runIds)).toEqual({ ...after, violations: [] });
  });

  test('no-loss: in the midst of a transaction it does not keep its successor from the company for ever', async () => {
    const interrupted = await startInterruptedWorker(backend, queue);
    const { worker, runIds, after } = interrupted;
    const release = await holdActivityLog(database.sql);
    await interrupted.publishUntilTakenUp();
    await untilBlocked(database.sql);
    worker.kill('SIGSTOP');

    const successor = spawnWorker(backend, SHORT_LOCKS);
    await successor.untilLogged('worker started');
    await release();
    await untilEffects(database.sql, runIds, after);
    await untilAllServed(queue);
    await serveOneMore(interrupted, successor);
    expect(await outcomeOnceServed(queue, database.sql, runIds)).toEqual({ ...after, violations: [] });
  });
});
