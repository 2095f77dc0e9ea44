import type { Sql } from 'postgres';
import { expect, test } from 'vitest';
import { openProducer, untilBlocked, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOnce, outcomeOnceCompleted, untilAllCompleted, untilEffects } from './effects.ts';

/** How many deadlocks Postgres has resolved in this database. */
async function deadlocks(sql: Sql): Promise<number> {
  const [database] = await sql<[{ deadlocks: number }]>`
    select deadlocks::int from pg_stat_database where datname = current_database()`;
  return database.deadlocks;
}

describeOnEachBackend('a deadlock with a foreign session', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test.for([
    ['an operation', 1],
    ['a batch', 10],
  ] as const)('no-loss: %s that Postgres aborts with 40P01 is retried, and has its effect once', async ([, count]) => {
    const companyId = await insertCompany(database.sql);
    const runs = Array.from({ length: count }, () => runStarted({ companyId }));
    const runIds = runs.map((run) => run.runId);
    const producer = openProducer(backend);
    const deadlocksBefore = await deadlocks(database.sql);
    const worker = spawnWorker(backend);
    await worker.untilLogged('worker started');
    await Promise.all(runs.map((run) => producer.runStarted(run)));
    await untilEffects(database.sql, runIds, effectsOnce(count, 0));
    await untilAllCompleted(queue);

    // A worker locks the company first and then its runs. The session whose `deadlock_timeout` passes first detects the
    // deadlock and is aborted: the worker, as the timeout of the foreign session is far longer.
    await database.sql.begin(async (foreign) => {
      await foreign`set local deadlock_timeout = '1min'`;
      await foreign`select from lessor.heartbeat_runs where id = ${runIds.at(-1)!} for update`;
      await Promise.all(runs.map(({ runId }) => producer.runFinished({ companyId, runId, status: 'succeeded' })));
      await untilBlocked(database.sql);
      await foreign`select from lessor.companies where id = ${companyId} for update`;
    });
    expect(await outcomeOnceCompleted(queue, database.sql, runIds)).toEqual({
      ...effectsOnce(count, count),
      violations: [],
    });
    await until(async () => (await deadlocks(database.sql)) > deadlocksBefore, { what: 'the deadlock being counted' });
  });
});
