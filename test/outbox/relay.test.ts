import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { createOutbox } from '../../src/outbox/outbox.ts';
import { useQueues } from '../consumers/fixture.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import {
  OFTEN_MS,
  jobsInOutbox,
  newRun,
  startRelay,
  untilOutboxIsEmpty,
  untilPublished,
  writeEnd,
  writeStart,
} from './fixture.ts';

const outbox = createOutbox();

describeOnEachBackend('a relay', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  /** Writes a start that nobody is told of. */
  async function writeUntold(jobId: string, runId: string = randomUUID()): Promise<void> {
    await database.sql`
      insert into lessor.outbox (queue, job_id, run_id, payload) values ('run-started', ${jobId}, ${runId}, '{}')`;
  }

  test('is woken by each commit and does not wait for the next poll', async () => {
    startRelay(backend);
    // Starting to listen wakes it too, but not three times.
    for (const run of [newRun(), newRun(), newRun()]) {
      const { jobId } = await writeStart(database, run);
      await untilOutboxIsEmpty(database);
      expect(await queue('run-started').getJobState(jobId)).toBe('waiting');
    }
  });

  test('no-loss: finds by polling jobs without a notification', async () => {
    startRelay(backend, { outboxPollIntervalMs: 50 });
    for (let suppressed = 0; suppressed < 3; suppressed += 1) {
      const jobId = `suppressed-${randomUUID()}`;
      await writeUntold(jobId);
      await untilOutboxIsEmpty(database);
      expect(await queue('run-started').getJobState(jobId)).toBe('waiting');
    }
  });

  test('no-loss: reconnects its listener when terminated, and finds what it missed', async () => {
    const { errors } = startRelay(backend);
    const terminate = () => database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'lessor outbox test' and query like 'listen%'`;
    for (const cuts of [1, 2]) {
      await until(async () => (await terminate()).length === 1, { what: 'a connection to be cut' });
      const missed = await writeStart(database, newRun());
      await untilPublished(queue('run-started'), missed.jobId);
      await until(() => errors.length === cuts, { what: 'the cut being told' });
    }
    const heard = await writeStart(database, newRun());
    await untilPublished(queue('run-started'), heard.jobId);
    expect(errors).toHaveLength(2);
  });

  test('no-loss: publishes a job committed after later jobs were published', async () => {
    startRelay(backend);
    const [late, quick] = [newRun(), newRun()];
    const written = await database.db.transaction(async (tx) => {
      const { jobId } = await outbox.runStarted(tx, late);
      const quickJob = await writeStart(database, quick);
      await untilPublished(queue('run-started'), quickJob.jobId);
      await until(async () => (await jobsInOutbox(database)).length === 0);
      return jobId;
    });
    await untilOutboxIsEmpty(database);
    expect(await queue('run-started').getJobState(written)).toBe('waiting');
  });

  test('publishes an event once that was written several times', async () => {
    const run = newRun();
    const before = (await queue('run-started').getWaitingCount()) + 1;
    for (let times = 0; times < 3; times += 1) await writeStart(database, run);
    startRelay(backend);
    await untilOutboxIsEmpty(database);
    expect(await queue('run-started').getWaitingCount()).toBe(before);
  });

  test('skips a job while an earlier one of its run is locked by another relay', async () => {
    const [held, other] = [newRun(), newRun()];
    const start = await writeStart(database, held);
    const end = await writeEnd(database, held);
    await database.sql.begin(async (sql) => {
      await sql`select from lessor.outbox where job_id = ${start.jobId} for update`;
      startRelay(backend, { outboxPollIntervalMs: OFTEN_MS });
      const neighbour = await writeStart(database, other);
      await untilPublished(queue('run-started'), neighbour.jobId);
      await until(async () => (await jobsInOutbox(database)).length === 2);
      expect(await queue('run-finished').getJob(end.jobId)).toBeUndefined();
    });
    await untilPublished(queue('run-started'), start.jobId);
    await untilPublished(queue('run-finished'), end.jobId);
  });

  test('isolated: jobs that the queue rejects delay no other run, and are published once repaired', async () => {
    const companyId = randomUUID();
    // More than fit into one batch. BullMQ rejects integers as ids.
    await database.sql`
      insert into lessor.outbox (queue, job_id, run_id, payload)
      select 'run-started', number::text, gen_random_uuid(), '{}' from generate_series(1, 450) as number`;
    const mended = newRun(companyId);
    await writeUntold('451', mended.runId);
    const end = await writeEnd(database, mended);
    const neighbours = [newRun(companyId), newRun(companyId)];
    const { unpublishable, errors } = startRelay(backend);
    for (const neighbour of neighbours) {
      const { jobId } = await writeStart(database, neighbour);
      await untilPublished(queue('run-started'), jobId);
    }
    expect(unpublishable.length).toBeGreaterThanOrEqual(451);
    expect(unpublishable[0]?.message).toMatch(/^\d+ \(row \d+\) is retried in 1000 ms: .*integers/);
    expect(errors).toEqual([]);
    expect(await queue('run-finished').getJob(end.jobId)).toBeUndefined();

    await database.sql`delete from lessor.outbox where job_id ~ '^[0-9]+$' and run_id <> ${mended.runId}`;
    await database.sql`update lessor.outbox set job_id = ${`${mended.runId}-started`} where job_id = '451'`;
    await untilOutboxIsEmpty(database);
    await untilPublished(queue('run-started'), `${mended.runId}-started`);
    await untilPublished(queue('run-finished'), end.jobId);
  });
});
