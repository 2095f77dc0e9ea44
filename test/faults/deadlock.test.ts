import type { Sql } from 'postgres';
import { expect, test } from 'vitest';
import { openProducer, untilBlocked, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOnce, outcomeOnceServed, untilAllServed, untilEffects } from './effects.ts';

/** How often Postgres has had to end a deadlock in this database. */
async function deadlocks(sql: Sql): Promise<number> {
  const [database] = await sql<[{ deadlocks: number }]>`
    select deadlocks::int from pg_stat_database where datname = current_database()`;
  return database.deadlocks;
}

describeOnEachBackend('a deadlock with a session from outside', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test.for([
    ['an operation', 1],
    ['a batch', 10],
  ] as const)('no-loss: %s that Postgres ends by 40P01 is tried again, and done once', async ([, count]) => {
    const companyId = await insertCompany(database.sql);
    const runs = Array.from({ length: count }, () => runStarted({ companyId }));
    const runIds = runs.map((run) => run.runId);
    const producer = openProducer(backend);
    const deadlocksBefore = await deadlocks(database.sql);
    const worker = spawnWorker(backend);
    await worker.untilLogged('worker started');
    await Promise.all(runs.map((run) => producer.runStarted(run)));
    await untilEffects(database.sql, runIds, effectsOnce(count, 0));
    await untilAllServed(queue);

    // A worker takes the company first and then its runs. Whoever has waited for `deadlock_timeout` looks for a
    // deadlock and is its victim: the session from outside does so long after the worker.
    await database.sql.begin(async (outside) => {
      await outside`set local deadlock_timeout = '1min'`;
      await outside`select from lessor.heartbeat_runs where id = ${runIds.at(-1)!} for update`;
      await Promise.all(runs.map(({ runId }) => producer.runFinished({ companyId, runId, status: 'succeeded' })));
      await untilBlocked(database.sql);
      await outside`select from lessor.companies where id = ${companyId} for update`;
    });
    expect(await outcomeOnceServed(queue, database.sql, runIds)).toEqual({
      ...effectsOnce(count, count),
      violations: [],
    });
    await until(async () => (await deadlocks(database.sql)) > deadlocksBefore, { what: 'a deadlock being counted' });
  });
});
