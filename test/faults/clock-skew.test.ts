import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { openProducer, rejectRun, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import {
  insertEnvironment,
  insertCompany,
  insertLease,
  insertRun,
  backdateExpiry,
  runStarted,
} from '../support/factories.ts';
import { readLease } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { effectsOnce, outcomeOnceCompleted, untilEffects } from './effects.ts';
import { SHORT_LOCKS } from './interrupted-worker-fixture.ts';

const HOUR_MS = 60 * 60 * 1_000;
const SHIFTED_CLOCK = new URL('./shifted-clock.ts', import.meta.url);

/** Far less than the clock skew. */
const TTL_SECONDS = 600;

describeOnEachBackend('a worker with a skewed clock', (backend) => {
  const { database } = backend;
  const queue = useQueues(backend);

  async function startWorker(shiftMs: number) {
    const worker = spawnWorker(backend, [...SHORT_LOCKS, '--sweep-interval', '1s'], {
      env: { CLOCK_SHIFT_MS: String(shiftMs) },
      preloads: [SHIFTED_CLOCK],
    });
    await worker.untilLogged('worker started');
    return worker;
  }

  /** Inserts a lease of a running run that is due to be swept. */
  async function insertExpiredLease(companyId: string): Promise<string> {
    const { sql } = database;
    const environmentId = await insertEnvironment(sql, { companyId, driver: 'ssh', name: randomUUID() });
    const leaseId = await insertLease(sql, { companyId, environmentId, runId: await insertRun(sql, { companyId }) });
    await backdateExpiry(sql, leaseId);
    return leaseId;
  }

  const untilSwept = (leaseId: string) =>
    until(async () => (await readLease(database.sql, leaseId)).status === 'expired', {
      timeoutMs: 20_000,
      what: 'the sweep of the expired lease',
    });

  /** Publishes runs on one workspace each, and then runs that wait for the same workspaces until the first ones end. */
  async function runTwiceOnEachWorkspace() {
    const companyId = await insertCompany(database.sql);
    const producer = openProducer(backend);
    const rounds = [0, 1].map(() => [] as string[]) as [string[], string[]];
    const workspaces = Array.from({ length: 5 }, () => randomUUID());
    for (const round of rounds) {
      for (const executionWorkspaceId of workspaces) {
        const run = runStarted({ companyId, executionWorkspaceId, ttlSeconds: TTL_SECONDS });
        round.push(run.runId);
        await producer.runStarted(run);
      }
      if (round === rounds[0]) await untilEffects(database.sql, round, effectsOnce(workspaces.length, 0));
    }
    await until(async () => (await queue('run-started').getDelayedCount()) > 0, { what: 'waiting runs' });
    for (const runId of rounds[0]) await producer.runFinished({ companyId, runId, status: 'succeeded' });
    return { companyId, runIds: rounds.flat(), effects: effectsOnce(2 * workspaces.length, workspaces.length) };
  }

  describe.each([
    ['an hour ahead', HOUR_MS],
    ['an hour behind', -HOUR_MS],
  ])('%s', (_name, shiftMs) => {
    test('grants, waits, retries and sweeps by the clock of Postgres', async () => {
      await startWorker(shiftMs);
      const retried = runStarted({ ttlSeconds: TTL_SECONDS });
      await rejectRun(database.sql, retried.runId, '40001', { times: 2 });
      await openProducer(backend).runStarted(retried);
      const { companyId, runIds, effects } = await runTwiceOnEachWorkspace();
      await untilSwept(await insertExpiredLease(companyId));
      await untilEffects(database.sql, [retried.runId], effectsOnce(1, 0));

      expect(await outcomeOnceCompleted(queue, database.sql, runIds)).toEqual({ ...effects, violations: [] });
      const [leases] = await database.sql`
        select count(*)::int from lessor.environment_leases
        where company_id = ${companyId} and status = 'active'
          and acquired_at between now() - interval '1 min' and now()
          and expires_at = acquired_at + make_interval(secs => ${TTL_SECONDS})`;
      expect(leases).toEqual({ count: 5 });
    });

    test('does not affect a second worker with the right clock', async () => {
      await startWorker(0);
      const wrong = await startWorker(shiftMs);
      const { companyId, runIds, effects } = await runTwiceOnEachWorkspace();
      expect(await outcomeOnceCompleted(queue, database.sql, runIds)).toEqual({ ...effects, violations: [] });

      wrong.kill('SIGKILL');
      await wrong.ended;
      await untilSwept(await insertExpiredLease(companyId));
    });
  });
});
