import { expect, test } from 'vitest';
import { openProducer } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { audit } from '../support/audit.ts';
import { useDatabase } from '../support/database.ts';
import { runStarted } from '../support/factories.ts';
import { until } from '../support/until.ts';
import { effectsOnce, untilEffects } from './effects.ts';
import { describeOnOwnRedis } from './own-servers.ts';

const RUNS = 500;
const COMPANIES = 10;

/** Long enough for all of them to be live at once. */
const TTL_SECONDS = 10;

describeOnOwnRedis('a Redis that loses everything', (redis) => {
  const database = useDatabase();

  test('no-leak: in the midst of 500 live runs, each lease still ends at its time, with its reason', async () => {
    const stores = { database, queueUrl: redis.server.url, prefix: 'lessor' };
    const worker = spawnWorker(stores, ['--sweep-interval', '1s']);
    await worker.untilLogged('worker started');
    const producer = openProducer(stores);
    const companies = Array.from({ length: COMPANIES }, () => runStarted().companyId);
    const runs = Array.from({ length: RUNS }, (_, number) =>
      runStarted({ companyId: companies[number % COMPANIES]!, ttlSeconds: TTL_SECONDS }),
    );
    await Promise.all(runs.map((run) => producer.runStarted(run)));
    const runIds = runs.map((run) => run.runId);
    await untilEffects(database.sql, runIds, effectsOnce(RUNS, 0));
    await redis.server.call('FLUSHALL');

    const ended = () => database.sql`
      select status, failure_reason, count(*)::int from lessor.environment_leases
      where heartbeat_run_id = any(${runIds}::uuid[]) group by status, failure_reason`;
    await until(async () => (await ended()).every(({ status }) => status === 'expired'), {
      timeoutMs: (TTL_SECONDS + 20) * 1_000,
      what: 'every lease being expired',
    });
    expect(await ended()).toEqual([{ status: 'expired', failure_reason: expect.stringMatching(/\S/), count: RUNS }]);
    expect(await audit(database.sql)).toEqual([]);
  });
});
