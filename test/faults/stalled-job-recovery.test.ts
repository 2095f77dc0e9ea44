import { expect, test } from 'vitest';
import { audit } from '../../testing/audit/invariants.ts';
import { insertCompany, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import {
  countLeases,
  lockCompany,
  startWorker,
  untilBlocked,
  untilCompleted,
  useQueues,
} from '../consumers/fixture.ts';
import { spawnPublisher, spawnWorker } from '../consumers/processes.ts';

const TIMEOUT_MS = 60_000;

describeOnEachBackend('stalled-job recovery', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  test(
    'no-loss: the active jobs of a killed worker are recovered by another one, and have their effect once',
    { timeout: TIMEOUT_MS },
    async () => {
      const companies = await Promise.all(Array.from({ length: 10 }, () => insertCompany(database.sql)));
      const starts = Array.from({ length: 100 }, (_, number) => runStarted({ companyId: companies[number % 10]! }));
      // Work for one company is blocked, so jobs are certainly in flight when the worker is killed.
      const release = await lockCompany(database.sql, companies[5]!);
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
      await untilCompleted(queue('run-started'), starts.length);
      expect(await countLeases(database.sql, companies)).toEqual({ locals: 10, leases: 100, runs: 100, acquired: 100 });
      expect(await audit(database.sql)).toEqual([]);
    },
  );
});
