import { expect, onTestFinished, test } from 'vitest';
import { openQueues } from '../../src/queues/queues.ts';
import { useDatabase } from '../support/database.ts';
import { holdLock } from '../support/locks.ts';
import { until } from '../../testing/until.ts';

const database = useDatabase();

/** Postgres terminates the connection during the report. Redis cannot fail a command that it has started. */
test('no-loss: a completed job whose completion is reported twice counts one attempt', async () => {
  const errors: Error[] = [];
  const queues = openQueues(database.url, { role: 'consumer', onError: (error) => errors.push(error) });
  onTestFinished(() => queues.close());
  const queue = queues.queue('run-started');
  onTestFinished(() => queue.close());
  let isActive = false;
  let end: (() => void) | undefined;
  const ending = new Promise<void>((resolve) => (end = resolve));
  const processor = () => {
    isActive = true;
    return ending;
  };
  const worker = queues.worker('run-started', processor, { lockDuration: 60_000 });
  onTestFinished(() => worker.close());
  await queue.add('run-started', {}, { jobId: 'it', attempts: 3 });
  await until(() => isActive, { what: 'the job being active' });

  const unlock = await holdLock(database.sql, (sql) => sql`select from bullmq.job where id = 'it' for update`);
  end!();
  await until(() => terminateLockWaiters(), { what: 'the completion being reported' });
  await until(() => errors.some(({ message }) => message.includes('terminating connection')), { what: 'its failure' });
  await unlock();
  await until(async () => (await queue.getJobState('it')) === 'completed', { what: 'the end of the job' });
  expect(await queue.getJob('it')).toMatchObject({ attemptsMade: 1 });
});

async function terminateLockWaiters(): Promise<boolean> {
  const ended = await database.sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`;
  return ended.length > 0;
}
