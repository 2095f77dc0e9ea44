import type { Sql } from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { openProducer, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, effectsOnce, outcomeOnceServed } from './effects.ts';
import { createLoad } from './load.ts';

const RUNS = 100;

/** Longer than this outage, for which a worker tells the queue again that a job is done; no longer than a test can wait. */
const LOCKS = ['--lock-duration', '8s'] as const;

/** Lets sessions that begin from now on only read, or write again. Those that are there stay as they are. */
async function setReadOnly(sql: Sql, readOnly: boolean): Promise<void> {
  const [{ name }] = await sql<[{ name: string }]>`select current_database() as name`;
  const change = readOnly ? 'set default_transaction_read_only = on' : 'reset default_transaction_read_only';
  await sql.begin('read write', (writing) => writing.unsafe(`alter database ${name} ${change}`));
}

/** Ends the sessions of everybody else. */
async function endSessions(sql: Sql): Promise<void> {
  await sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name <> 'test sql' and backend_type = 'client backend'`;
}

describeOnEachBackend('a Postgres that can only be read, as after a failover or with a full disk', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test('no-loss: jobs wait without spending an attempt, and are served once it can be written again', async () => {
    const worker = spawnWorker(backend, LOCKS);
    await worker.untilLogged('worker started');
    const { runIds, starts } = createLoad(openProducer(backend), RUNS);
    const published = starts();
    await until(async () => (await effectsOf(database.sql, runIds)).leases > 0, { what: 'the first lease' });
    onTestFinished(() => setReadOnly(database.sql, false));
    await setReadOnly(database.sql, true);
    await endSessions(database.sql);
    await worker.untilLogged('read-only transaction');
    expect((await effectsOf(database.sql, runIds)).leases).toBeLessThan(RUNS);

    // The sessions that began meanwhile stay read-only: it is for the worker to give them up.
    await setReadOnly(database.sql, false);
    await published;
    expect(await outcomeOnceServed(queue, database.sql, runIds)).toEqual({ ...effectsOnce(RUNS, 0), violations: [] });
    const jobs = await queue('run-started').getCompleted();
    expect(new Set(jobs.map((job) => job.attemptsMade))).toEqual(new Set([1]));
  });
});
