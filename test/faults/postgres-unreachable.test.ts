import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import postgres from 'postgres';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createWorker } from '../../src/consumers/worker.ts';
import { migrate } from '../../src/db/migrate.ts';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { whyNoRedisServer } from '../queues/redis-server.ts';
import { audit } from '../../testing/audit/invariants.ts';
import { startRestartablePostgres } from '../../testing/stores/postgres-server.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';
import { until } from '../../testing/until.ts';

const notRun = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

/** Long enough for the backoff to reach its maximum, as in an outage of minutes. */
const OUTAGE_MS = 8_000;

const PAYLOAD_QUEUES = ['run-started', 'run-finished', 'run-heartbeat'] as const;

/**
 * The most lines that a replica may log about the outage. They are throttled: their number, about 8 on an idle machine, grows
 * with the logarithm of the outage's length, not with the hundreds of waiting jobs.
 */
const LINES_PER_REPLICA = 20;

describe.skipIf(whyNoRedisServer !== undefined)(`Postgres is unreachable under load${notRun}`, () => {
  test.each(['fast', 'immediate'] as const)(
    'no-loss: no job fails or has an attempt counted, and every effect is there after a %s stop and a start',
    { timeout: 90_000 },
    async (stopMode) => {
      const store = await startRestartablePostgres();
      onTestFinished(() => store.close());
      const redis = await startRestartableRedis();
      onTestFinished(() => redis.close());
      await migrate(store.url);

      const lines: { level: number; event?: string }[] = [];
      const logger = pino({ level: 'info' }, { write: (line) => lines.push(JSON.parse(line) as (typeof lines)[0]) });
      const workers = ['one', 'two'].map((replica) =>
        createWorker({ databaseUrl: store.url, queueUrl: redis.url, replica, logger, sweepIntervalMs: 500 }),
      );
      for (const worker of workers) {
        onTestFinished(() => worker.close());
        await worker.start();
      }
      const producer = createHeartbeatProducer({ queueUrl: redis.url });
      onTestFinished(() => producer.close());

      // Runs one after another: producers must not notice the outage.
      const companyIds = Array.from({ length: 10 }, () => randomUUID());
      const runIds: string[] = [];
      const slowest = { publishMs: 0 };
      const loading = { isOver: false };
      const publishRuns = async (): Promise<void> => {
        while (!loading.isOver) {
          const run = { companyId: companyIds[runIds.length % companyIds.length]!, runId: randomUUID() };
          runIds.push(run.runId);
          const before = performance.now();
          await producer.runStarted(run);
          await producer.runHeartbeat(run);
          await producer.runFinished({ ...run, status: 'succeeded' });
          slowest.publishMs = Math.max(slowest.publishMs, performance.now() - before);
          await sleep(20);
        }
      };
      const publishing = Promise.all(Array.from({ length: 4 }, publishRuns));

      await until(() => runIds.length > 50, { what: 'load' });
      lines.length = 0;
      await store.stop(stopMode);
      const runsBefore = runIds.length;
      await sleep(OUTAGE_MS);
      const runsMeanwhile = runIds.length - runsBefore;
      await store.start();
      const runsAfter = runIds.length + 50;
      await until(() => runIds.length > runsAfter, { what: 'load after the outage' });
      loading.isOver = true;
      await publishing;

      const queues = openQueues(redis.url, { role: 'consumer', onError: () => undefined });
      onTestFinished(() => queues.close());
      for (const name of PAYLOAD_QUEUES) {
        const queue = queues.queue(name);
        onTestFinished(() => queue.close());
        await until(
          async () => {
            const { completed, failed, ...left } = await queue.getJobCounts();
            if (Object.values(left).some((count) => count > 0)) throw new Error(JSON.stringify(left));
            if (completed !== runIds.length) throw new Error(`completed ${completed}, failed ${failed}`);
            return true;
          },
          { timeoutMs: 30_000, what: `every job of ${name} being completed` },
        );
        expect(await queue.getJobCountByTypes('failed')).toBe(0);
        const jobs = await queue.getJobs(['completed']);
        expect(jobs.filter((job) => job.attemptsMade > 1)).toEqual([]);
      }

      const sql = postgres(store.url, { max: 1 });
      onTestFinished(() => sql.end());
      const [effects] = await sql`
        select count(*)::int as runs, count(*) filter (where run.status = 'succeeded')::int as succeeded,
          count(lease.id) filter (where lease.status = 'released')::int as released
        from lessor.heartbeat_runs run left join lessor.environment_leases lease on lease.heartbeat_run_id = run.id`;
      expect(effects).toMatchObject({ runs: runIds.length, succeeded: runIds.length });
      expect(await audit(sql)).toEqual([]);

      expect(runsMeanwhile).toBeGreaterThan(100);
      expect(slowest.publishMs).toBeLessThan(2_000);
      const logged = lines.filter(({ event }) => event !== 'lease_swept');
      expect(logged.slice(LINES_PER_REPLICA * workers.length)).toEqual([]);
      expect(logged.filter(({ event }) => event === 'database_reachable').length).toBeGreaterThan(0);
    },
  );
});
