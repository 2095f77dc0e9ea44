import { queueNameOf } from '../queued-runs.ts';
import { untilDrained } from '../until-drained.ts';
import { finishOf, startOf } from '../workload.ts';
import type { Phase, Run } from '../workload.ts';
import type { Contender } from './contender.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { inTransaction, openPool, writeRun } from './statements.ts';

/**
 * The policy that serializes by key. One statement fetches the heads of up to `batchSize` keys; after a full batch the next
 * one is fetched without a pause.
 */
const QUEUE = { policy: 'key_strict_fifo', partition: true } as const;
const WORK = {
  batchSize: 50,
  localConcurrency: 2,
  burstWhenBatchFull: true,
  pollingIntervalSeconds: 0.5,
  perJobResults: true,
} as const;
const CONNECTIONS = 20;
const JOBS_PER_INSERT = 1_000;

export const pgBoss: Contender = {
  label: 'pg-boss',
  title: 'pg-boss, strict order per company',
  packages: ['pg-boss', 'pg'],
  settings: { ...QUEUE, ...WORK, connections: CONNECTIONS, statements: 'parameterized' },
  writesRows: true,

  async open({ databaseUrl }, runs) {
    const pool = await openPool(databaseUrl, CONNECTIONS);
    const oneAtATime = new OneAtATime();
    const { PgBoss } = await import('pg-boss');
    const boss = new PgBoss(databaseUrl);
    boss.on('error', (error) => process.emitWarning(error));
    await boss.start();
    for (const phase of ['start', 'finish'] as const) await boss.createQueue(queueNameOf(phase), QUEUE);
    let loaded: Phase = 'start';
    return {
      async load(phase) {
        loaded = phase;
        const toMessage = phase === 'start' ? startOf : finishOf;
        const jobs = runs.map((run) => ({ data: toMessage(run), singletonKey: run.companyId }));
        for (let first = 0; first < jobs.length; first += JOBS_PER_INSERT) {
          await boss.insert(queueNameOf(phase), jobs.slice(first, first + JOBS_PER_INSERT));
        }
      },
      async drain() {
        const phase = loaded;
        await boss.work<Run, unknown, typeof WORK>(queueNameOf(phase), WORK, (jobs) =>
          Promise.all(
            jobs.map(async ({ id, data }) => {
              await oneAtATime.during(data.companyId, () =>
                inTransaction(pool, (connection) => writeRun(connection, phase, data)),
              );
              return { id, status: 'completed' as const };
            }),
          ),
        );
        await untilDrained(async () => {
          const { rows } = await pool.query<{ left: number }>(
            `select count(*)::int as left from pgboss.job where name = $1 and state < 'completed'`,
            [queueNameOf(phase)],
          );
          return rows[0]!.left;
        });
      },
      violations: () => oneAtATime.violations,
      async close() {
        await boss.stop({ graceful: false });
        await pool.end();
      },
    };
  },
};
