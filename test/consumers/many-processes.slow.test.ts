import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { audit } from '../../testing/audit/invariants.ts';
import { runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { countLeases, untilCompleted, useQueues } from './fixture.ts';
import { spawnPublisher, spawnWorker } from './processes.ts';

const TIMEOUT_MS = 60_000;

describeOnEachBackend('many processes', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test(
    'one-local, one-lease, always-audited: four workers process each start once that two services publish',
    { timeout: TIMEOUT_MS },
    async () => {
      const companyId = randomUUID();
      const companies = Array.from({ length: 100 }, () => randomUUID());
      const ofOneCompany = Array.from({ length: 200 }, () => runStarted({ companyId }));
      const ofManyCompanies = Array.from({ length: 200 }, (_, number) =>
        runStarted({ companyId: companies[number % 100]! }),
      );
      const starts = [...ofOneCompany, ...ofManyCompanies];
      // Every process starts at the same time, so that workers race to register new companies.
      const workers = Array.from({ length: 4 }, (_, number) => spawnWorker(backend, ['--replica', `worker-${number}`]));
      const publishers = [starts, starts.toReversed()].map((order) => spawnPublisher(backend, order));
      expect(await Promise.all(publishers.map((publisher) => publisher.ended))).toEqual([0, 0]);
      await untilCompleted(queue('run-started'), starts.length);

      expect(await countLeases(database.sql, [companyId])).toEqual({
        locals: 1,
        leases: 200,
        runs: 200,
        acquired: 200,
      });
      expect(await countLeases(database.sql, companies)).toEqual({
        locals: 100,
        leases: 200,
        runs: 200,
        acquired: 200,
      });
      expect(await audit(database.sql)).toEqual([]);

      for (const worker of workers) await worker.untilLogged('worker started');
      for (const worker of workers) worker.kill('SIGTERM');
      expect(await Promise.all(workers.map((worker) => worker.ended))).toEqual([0, 0, 0, 0]);
    },
  );
});
