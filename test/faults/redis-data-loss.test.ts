import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openProducer, startWorker } from '../consumers/fixture.ts';
import { whyNoRedisServer } from '../queues/redis-server.ts';
import { audit } from '../../testing/audit/invariants.ts';
import { useDatabase } from '../support/database.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';
import { until } from '../../testing/until.ts';

const notRun = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

const RUNS = 500;
const TTL_SECONDS = 3;
const SWEEP_INTERVAL_MS = 500;

/** The schedule is restored within one interval of its loss, and a sweep follows right away. */
const ONE_SWEEP_SECONDS = (2 * SWEEP_INTERVAL_MS) / 1_000;

/** For a busy machine. */
const MARGIN_SECONDS = 2;

describe.skipIf(whyNoRedisServer !== undefined)(`Redis loses all data${notRun}`, () => {
  const database = useDatabase({ audited: true });

  /** The leases, counted by status and by whether they have a reason. */
  const leases = async () => {
    const rows = await database.sql<{ status: string; explained: boolean; count: number }[]>`
      select status, failure_reason is not null as explained, count(*)::int as count
      from lessor.environment_leases group by status, explained order by status`;
    return rows.map(({ status, explained, count }) => ({ status, explained, count }));
  };

  const untilLeases = async (...wanted: Awaited<ReturnType<typeof leases>>) =>
    until(
      async () => {
        const found = await leases();
        if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(JSON.stringify(found));
        return true;
      },
      { timeoutMs: 30_000, what: 'the expected leases' },
    );

  test(
    'no-leak, always-explained: every lease of 500 live runs ends within its ttl and a sweep after Redis lost all data',
    { timeout: 60_000 },
    async () => {
      const redis = await startRestartableRedis();
      onTestFinished(() => redis.close());
      const backend = { kind: 'redis', queueUrl: redis.url, prefix: 'lessor', database } as const;
      await startWorker(backend, { sweepIntervalMs: SWEEP_INTERVAL_MS, replica: 'one' });
      await startWorker(backend, { sweepIntervalMs: SWEEP_INTERVAL_MS, replica: 'two' });
      const producer = openProducer(backend);
      const runs = Array.from({ length: RUNS }, (_, number) => ({
        companyId: `00000000-0000-4000-8000-${String(number % 10).padStart(12, '0')}`,
        runId: randomUUID(),
      }));
      const finished = runs.slice(0, 100);
      const renewed = runs.slice(100, 150);
      const silent = runs.slice(150);
      await Promise.all(runs.map((run) => producer.runStarted({ ...run, ttlSeconds: 60 })));
      await untilLeases({ status: 'active', explained: false, count: RUNS });
      // As if all of them had been acquired with this ttl at this moment.
      await database.sql`
        update lessor.environment_leases set expires_at = now() + make_interval(secs => ${TTL_SECONDS})
        where heartbeat_run_id = any(${silent.map((run) => run.runId)}::uuid[])`;

      await redis.call('FLUSHALL');

      await Promise.all(finished.map((run) => producer.runFinished({ ...run, status: 'succeeded' })));
      await Promise.all(renewed.map((run) => producer.renewLease(run)));
      const [expiring] = await database.sql<[{ last: Date }]>`
        select max(expires_at) as last from lessor.environment_leases
        where heartbeat_run_id = any(${silent.map((run) => run.runId)}::uuid[])`;

      await untilLeases(
        { status: 'active', explained: false, count: 50 },
        { status: 'expired', explained: true, count: 350 },
        { status: 'released', explained: false, count: 100 },
      );
      const [swept] = await database.sql<[{ last: Date }]>`
        select max(released_at) as last from lessor.environment_leases where status = 'expired'`;
      const afterSeconds = (swept.last.getTime() - expiring.last.getTime()) / 1_000;
      expect(afterSeconds).toBeLessThan(ONE_SWEEP_SECONDS + MARGIN_SECONDS);

      await Promise.all(
        renewed.map((run) => producer.runFinished({ ...run, status: 'failed', failureReason: 'boom' })),
      );
      await untilLeases(
        { status: 'expired', explained: true, count: 350 },
        { status: 'failed', explained: true, count: 50 },
        { status: 'released', explained: false, count: 100 },
      );
      expect(await audit(database.sql)).toEqual([]);
    },
  );
});
