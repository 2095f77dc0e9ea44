import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { holdLock } from '../support/locks.ts';
import { insertCompany, runFinished, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { jobInState, startWorker, untilBlocked, useQueues } from './fixture.ts';

describeOnEachBackend(
  'a company that is being registered in an open transaction of a service',
  (backend) => {
    const queue = useQueues(backend);

    test('isolated: delays the start of its own run, and no job of another company', async () => {
      const { sql } = backend.database;
      const first = await startWorker(backend);
      const others = await Promise.all(
        Array.from({ length: 5 }, async () => runStarted({ companyId: await insertCompany(sql) })),
      );
      for (const run of others) {
        await queue('run-started').add('run-started', run, { jobId: `start-${run.runId}` });
        await jobInState(queue('run-started'), `start-${run.runId}`, 'completed');
      }
      await first.close();

      const companyId = randomUUID();
      const register = await holdLock(
        sql,
        (connection) => connection`insert into lessor.companies (id) values (${companyId})`,
      );
      const blocked = runStarted({ companyId });
      await queue('run-started').add('run-started', blocked, { jobId: `blocked-${blocked.runId}` });
      const again = others.map(({ companyId: other }) => runStarted({ companyId: other }));
      for (const run of again) await queue('run-started').add('run-started', run, { jobId: `start-${run.runId}` });
      for (const run of others)
        await queue('run-finished').add('run-finished', runFinished(run), { jobId: `finish-${run.runId}` });
      // All of them wait when this one starts, so that they are in one batch.
      await startWorker(backend);
      await untilBlocked(sql);
      for (const run of again) await jobInState(queue('run-started'), `start-${run.runId}`, 'completed');
      for (const run of others) await jobInState(queue('run-finished'), `finish-${run.runId}`, 'completed');
      expect(await queue('run-started').getJobState(`blocked-${blocked.runId}`)).toBe('active');
      await register();
      await jobInState(queue('run-started'), `blocked-${blocked.runId}`, 'completed');
    });
  },
  { audited: true },
);
