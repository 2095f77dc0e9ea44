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
import { effectsOnce, outcomeOnceServed, untilEffects } from './effects.ts';
import { SHORT_LOCKS } from './interrupted-worker.ts';

const HOUR_MS = 60 * 60 * 1_000;
const SHIFTED_CLOCK = new URL('./shifted-clock.ts', import.meta.url);

/** Far less than the worker's clock is wrong by. */
const TTL_SECONDS = 600;

describeOnEachBackend('a worker whose clock is wrong', (backend) => {
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

  /** A lease that a run of the company holds, which is due to be swept. */
  async function insertLapsedLease(companyId: string): Promise<string> {
    const { sql } = database;
    const environmentId = await insertEnvironment(sql, { companyId, driver: 'ssh', name: randomUUID() });
    const leaseId = await insertLease(sql, { companyId, environmentId, runId: await insertRun(sql, { companyId }) });
    await backdateExpiry(sql, leaseId);
    return leaseId;
  }

  const untilSwept = (leaseId: string) =>
    until(async () => (await readLease(database.sql, leaseId)).status === 'expired', {
      timeoutMs: 20_000,
      what: 'the lapsed lease being swept',
    });

  /** Publishes runs that want a workspace each, and runs that have to wait for the same ones until the first end. */
  async function serveInTurns() {
    const companyId = await insertCompany(database.sql);
    const producer = openProducer(backend);
    const turns = [0, 1].map(() => [] as string[]) as [string[], string[]];
    const workspaces = Array.from({ length: 5 }, () => randomUUID());
    for (const turn of turns) {
      for (const executionWorkspaceId of workspaces) {
        const run = runStarted({ companyId, executionWorkspaceId, ttlSeconds: TTL_SECONDS });
        turn.push(run.runId);
        await producer.runStarted(run);
      }
      if (turn === turns[0]) await untilEffects(database.sql, turn, effectsOnce(workspaces.length, 0));
    }
    await until(async () => (await queue('run-started').getDelayedCount()) > 0, { what: 'runs that wait' });
    for (const runId of turns[0]) await producer.runFinished({ companyId, runId, status: 'succeeded' });
    return { companyId, runIds: turns.flat(), effects: effectsOnce(2 * workspaces.length, workspaces.length) };
  }

  describe.each([
    ['an hour ahead', HOUR_MS],
    ['an hour behind', -HOUR_MS],
  ])('%s', (_name, shiftMs) => {
    test('grants, lets wait, tries again and sweeps by the clock of Postgres', async () => {
      await startWorker(shiftMs);
      const retried = runStarted({ ttlSeconds: TTL_SECONDS });
      await rejectRun(database.sql, retried.runId, '40001', { times: 2 });
      await openProducer(backend).runStarted(retried);
      const { companyId, runIds, effects } = await serveInTurns();
      await untilSwept(await insertLapsedLease(companyId));
      await untilEffects(database.sql, [retried.runId], effectsOnce(1, 0));

      expect(await outcomeOnceServed(queue, database.sql, runIds)).toEqual({ ...effects, violations: [] });
      const [leases] = await database.sql`
        select count(*)::int from lessor.environment_leases
        where company_id = ${companyId} and status = 'active'
          and acquired_at between now() - interval '1 min' and now()
          and expires_at = acquired_at + make_interval(secs => ${TTL_SECONDS})`;
      expect(leases).toEqual({ count: 5 });
    });

    test('does no harm to a second worker, whose clock is right', async () => {
      await startWorker(0);
      const wrong = await startWorker(shiftMs);
      const { companyId, runIds, effects } = await serveInTurns();
      expect(await outcomeOnceServed(queue, database.sql, runIds)).toEqual({ ...effects, violations: [] });

      wrong.kill('SIGKILL');
      await wrong.ended;
      await untilSwept(await insertLapsedLease(companyId));
    });
  });
});
