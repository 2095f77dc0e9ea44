import { EventEmitter, once } from 'node:events';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openProducer, startWorker, useQueues } from '../consumers/fixture.ts';
import { freePort, startRedisServer, whyNoRedisServer } from '../queues/redis-server.ts';
import { useDatabase } from '../support/database.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import {
  jobsInOutbox,
  newRun,
  openPublisher,
  startRelay,
  startRelayWith,
  untilOutboxIsEmpty,
  writeEnd,
  writeStart,
} from './fixture.ts';

describeOnEachBackend('a relay that fails', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  /** Makes the next commits fail that take something out of the outbox, as late as a commit can. */
  async function rejectCommits(times: number): Promise<void> {
    await database.sql.unsafe(`
      create sequence rejections;
      create function reject_commit() returns trigger language plpgsql as $$ begin
        if nextval('rejections') <= ${times} then raise exception 'rejected by a trigger'; end if;
        return null;
      end $$;
      create constraint trigger reject_commit after delete on lessor.outbox
        deferrable initially deferred for each row execute function reject_commit()`);
    onTestFinished(async () => {
      await database.sql`drop function reject_commit cascade`;
      await database.sql`drop sequence rejections`;
    });
  }

  test('no-loss: between publishing and commit publishes again, and job ids deduplicate', async () => {
    await rejectCommits(3);
    const run = newRun();
    const [start, end] = [await writeStart(database, run), await writeEnd(database, run)];
    const { errors } = startRelay(backend);
    await untilOutboxIsEmpty(database);
    expect(errors.map((error) => (error.cause as Error).message)).toEqual(Array(3).fill('rejected by a trigger'));
    const jobs = await Promise.all([queue('run-started').getJobs(), queue('run-finished').getJobs()]);
    const ofRun = jobs.flat().filter((job) => (job.data as { runId: string }).runId === run.runId);
    expect(ofRun.map((job) => job.id)).toEqual([start.jobId, end.jobId]);
  });

  test('no-loss: whose connection is terminated before the commit publishes again', async () => {
    const publisher = openPublisher(backend);
    const published: string[] = [];
    const errors: Error[] = [];
    startRelayWith(
      database,
      async (name, jobId, payload) => {
        await publisher.publish(name, jobId, payload);
        published.push(jobId);
        if (published.length > 1) return;
        await database.sql`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'test relay'`;
      },
      { onError: (error) => errors.push(error) },
    );
    const { jobId } = await writeStart(database, newRun());
    await untilOutboxIsEmpty(database);
    expect(published).toEqual([jobId, jobId]);
    expect(errors.length).toBeGreaterThan(0);
  });

  test('no-loss: by hanging has its locked jobs published by another relay', async () => {
    const gate = new EventEmitter();
    const silence = once(gate, 'opened');
    const taken: string[] = [];
    startRelayWith(
      database,
      async (_name, jobId) => {
        taken.push(jobId);
        await silence;
      },
      { idleInTransactionTimeoutMs: 200 },
    );
    // Before the relay is closed.
    onTestFinished(() => void gate.emit('opened'));
    const { jobId } = await writeStart(database, newRun());
    await until(() => taken.length === 1);
    startRelay(backend, { outboxPollIntervalMs: 20 });
    await untilOutboxIsEmpty(database);
    expect(await queue('run-started').getJobState(jobId)).toBe('waiting');
    expect(taken).toEqual([jobId]);
  });
});

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

describe.skipIf(whyNoRedisServer !== undefined)(`while Redis is unreachable${unlessRunnable}`, () => {
  const database = useDatabase();

  test('no-loss: a relay keeps written jobs, and publishes them once Redis is reachable', async () => {
    const port = await freePort();
    const redis = { kind: 'redis', queueUrl: `redis://127.0.0.1:${port}`, prefix: 'lessor', database } as const;
    const { errors, unpublishable } = startRelay(redis, { outboxPollIntervalMs: 50 });
    const run = newRun();
    const [start, end] = [await writeStart(database, run), await writeEnd(database, run)];
    await until(() => errors.length >= 2, { what: 'the relay trying again' });
    expect(await jobsInOutbox(database)).toEqual([start.jobId, end.jobId]);
    const server = await startRedisServer(port);
    await untilOutboxIsEmpty(database);
    expect(await server.call('EXISTS', `lessor:run-started:${start.jobId}`)).toBe(1);
    expect(await server.call('EXISTS', `lessor:run-finished:${end.jobId}`)).toBe(1);
    expect(unpublishable).toEqual([]);
  });

  test('no-loss: a worker grants written starts once Redis is back, and reports few errors', async () => {
    const port = await freePort();
    const first = await startRedisServer(port);
    const redis = { kind: 'redis', queueUrl: `redis://127.0.0.1:${port}`, prefix: 'lessor', database } as const;
    const lines: string[] = [];
    const logger = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) });
    const reported = () => lines.filter((line) => line.includes('outbox relay error'));
    const worker = await startWorker(redis, { logger, outboxPollIntervalMs: 50 });
    await first.stop();
    const run = newRun();
    await writeStart(database, run);
    await until(() => reported().length > 0, { what: 'a complaint' });
    await startRedisServer(port);
    const producer = openProducer(redis);
    const lease = await until(() => producer.waitForLease(run.runId));
    expect(lease).toMatchObject({ runId: run.runId, status: 'active' });
    await untilOutboxIsEmpty(database);
    expect(reported().length).toBeLessThanOrEqual(3);
    expect(reported()[0]).not.toContain(run.companyId);
    // Before its Redis is stopped, for which it would wait.
    await worker.close();
  });
});
