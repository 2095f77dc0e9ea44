import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { LessorQueue } from '../../src/queues/queues.ts';
import { audit } from '../support/audit.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../support/until.ts';
import { countOf, holdCompany, startWorker, untilBlocked, useQueues } from './fixture.ts';
import { spawnPublisher, spawnWorker } from './processes.ts';

const TIMEOUT_MS = 60_000;

/** Waits until so many jobs are completed, and none else is left. */
const untilServed = (queue: LessorQueue, jobs: number) =>
  until(
    async () => {
      const { completed = 0, ...others } = await queue.getJobCounts();
      const left = Object.values(others).reduce((sum, count) => sum + count, 0);
      if (completed !== jobs || left > 0) throw new Error(JSON.stringify({ completed, ...others }));
      return true;
    },
    { timeoutMs: 30_000, what: `${jobs} jobs being completed` },
  );

describeOnEachBackend('many processes', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test(
    'one-local, one-lease, always-told: four workers serve what two services publish twice',
    { timeout: TIMEOUT_MS },
    async () => {
      const companyId = randomUUID();
      const companies = Array.from({ length: 100 }, () => randomUUID());
      const ofOneCompany = Array.from({ length: 200 }, () => runStarted({ companyId }));
      const ofManyCompanies = Array.from({ length: 200 }, (_, number) =>
        runStarted({ companyId: companies[number % 100]! }),
      );
      const starts = [...ofOneCompany, ...ofManyCompanies];
      // Every process starts at once, so that workers meet the first jobs of companies that nobody has seen.
      const workers = Array.from({ length: 4 }, (_, number) => spawnWorker(backend, ['--replica', `worker-${number}`]));
      const publishers = [starts, starts.toReversed()].map((order) => spawnPublisher(backend, order));
      expect(await Promise.all(publishers.map((publisher) => publisher.ended))).toEqual([0, 0]);
      await untilServed(queue('run-started'), starts.length);

      expect(await countOf(database.sql, [companyId])).toEqual({ locals: 1, leases: 200, runs: 200, acquired: 200 });
      expect(await countOf(database.sql, companies)).toEqual({ locals: 100, leases: 200, runs: 200, acquired: 200 });
      expect(await audit(database.sql)).toEqual([]);

      for (const worker of workers) await worker.untilLogged('worker started');
      for (const worker of workers) worker.kill('SIGTERM');
      expect(await Promise.all(workers.map((worker) => worker.ended))).toEqual([0, 0, 0, 0]);
    },
  );
});

// A suite of its own, as on Redis a takeover waits for the interval of whoever looked for dead workers last.
describeOnEachBackend('a killed process', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test(
    'no-loss: what a worker had taken up when it was killed is served by another one, once',
    { timeout: TIMEOUT_MS },
    async () => {
      const companies = await Promise.all(Array.from({ length: 10 }, () => insertCompany(database.sql)));
      const starts = Array.from({ length: 100 }, (_, number) => runStarted({ companyId: companies[number % 10]! }));
      // Work on one company hangs, so the worker is killed while jobs are under way for certain.
      const release = await holdCompany(database.sql, companies[5]!);
      const doomed = spawnWorker(backend, ['--lock-duration', '1s', '--concurrency', '40']);
      await doomed.untilLogged('worker started');
      const publisher = spawnPublisher(backend, starts);
      expect(await publisher.ended).toBe(0);
      await untilBlocked(database.sql);
      doomed.kill('SIGKILL');
      expect(await doomed.ended).toBe('SIGKILL');
      expect(await queue('run-started').getActiveCount()).toBeGreaterThan(0);

      await startWorker(backend, { lockDurationMs: 1_000 });
      await release();
      await untilServed(queue('run-started'), starts.length);
      expect(await countOf(database.sql, companies)).toEqual({ locals: 10, leases: 100, runs: 100, acquired: 100 });
      expect(await audit(database.sql)).toEqual([]);
    },
  );
});
