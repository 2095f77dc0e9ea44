import type { Sql } from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { openProducer, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, effectsOnce, outcomeOnceCompleted } from './effects.ts';
import { createLoad } from './load.ts';

const RUNS = 100;

/** Longer than the outage, so that the jobs stay locked; short enough for a test to wait for. */
const LOCKS = ['--lock-duration', '8s'] as const;

/** Makes new sessions read-only, or writable again. Existing sessions are unchanged. */
async function setReadOnly(sql: Sql, readOnly: boolean): Promise<void> {
  const [{ name }] = await sql<[{ name: string }]>`select current_database() as name`;
  const change = readOnly ? 'set default_transaction_read_only = on' : 'reset default_transaction_read_only';
  await sql.begin('read write', (writing) => writing.unsafe(`alter database ${name} ${change}`));
}

/** Ends all other sessions. */
async function endSessions(sql: Sql): Promise<void> {
  await sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name <> 'test sql' and backend_type = 'client backend'`;
}

describeOnEachBackend('a read-only Postgres, as after a failover or with a full disk', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test('no-loss: jobs wait for a read-only Postgres without an attempt being counted, and are processed once it is writable', async () => {
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

    // Sessions that began meanwhile stay read-only: the worker has to destroy them.
    await setReadOnly(database.sql, false);
    await published;
    expect(await outcomeOnceCompleted(queue, database.sql, runIds)).toEqual({
      ...effectsOnce(RUNS, 0),
      violations: [],
    });
    const jobs = await queue('run-started').getCompleted();
    expect(new Set(jobs.map((job) => job.attemptsMade))).toEqual(new Set([1]));
  });
});
