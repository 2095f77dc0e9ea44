import { expect, onTestFinished, test } from 'vitest';
import { openProducer, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import type { NodeProcess } from '../../testing/processes.ts';
import { audit } from '../../testing/audit/invariants.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, effectsOnce } from './effects.ts';
import { SHORT_LOCKS } from './interrupted-worker-fixture.ts';

const NEIGHBOURS = 20;

/** Restarts a replica whenever it has crashed, as an orchestrator does, until the test ends. Returns the crash count. */
function keepRunning(start: () => NodeProcess): () => number {
  let crashes = 0;
  const over = new AbortController();
  onTestFinished(() => over.abort());
  const run = async (): Promise<void> => {
    await start().ended;
    if (over.signal.aborted) return;
    crashes += 1;
    await run();
  };
  void run();
  return () => crashes;
}

describeOnEachBackend('a job that crashes its worker', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test('isolated: a job that crashes its worker fails on its own after five crashes, and its neighbours are processed once', async () => {
    const companyId = await insertCompany(database.sql);
    const poisonPill = runStarted({ companyId });
    const neighbours = Array.from({ length: NEIGHBOURS }, () => runStarted({ companyId }));
    const producer = openProducer(backend);
    const runs = [...neighbours.slice(0, NEIGHBOURS / 2), poisonPill, ...neighbours.slice(NEIGHBOURS / 2)];
    for (const run of runs) await producer.runStarted(run);

    const crashes = keepRunning(() =>
      spawnWorker(backend, SHORT_LOCKS, {
        env: { CRASH_ON_RUN: poisonPill.runId },
        preloads: [new URL('./crash-on-run.ts', import.meta.url)],
      }),
    );
    const failed = await until(async () => (await queue('run-started').getFailed())[0], {
      timeoutMs: 90_000,
      what: 'the poison pill having failed',
    });
    expect(failed.id).toBe(`${poisonPill.runId}-started`);
    expect(failed.failedReason).toMatch(
      /^poison pill: 3 replicas in a row crashed during an isolated attempt at this job/,
    );
    // Two in company, and three alone.
    expect(crashes()).toBe(5);

    await until(async () => (await queue('run-started').getCompletedCount()) === NEIGHBOURS, {
      what: 'the neighbours being completed',
    });
    const neighbourIds = neighbours.map((run) => run.runId);
    expect(await effectsOf(database.sql, neighbourIds)).toEqual(effectsOnce(NEIGHBOURS, 0));
    expect(await effectsOf(database.sql, [poisonPill.runId])).toEqual(effectsOnce(0, 0));
    expect(await queue('run-started').getFailedCount()).toBe(1);
    expect(await audit(database.sql)).toEqual([]);
  });
});
