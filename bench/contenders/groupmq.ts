import { Redis } from 'ioredis';
import pMap from 'p-map';
import { untilDrained } from '../until-drained.ts';
import { finishOf, startOf } from '../workload.ts';
import type { Run } from '../workload.ts';
import type { Contender } from './contender.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { inTransaction, openPool, writeRun } from './statements.ts';

const CONCURRENCY = 50;
const CONNECTIONS = 20;

/** How many jobs are added concurrently. */
const PUBLISHERS = 250;

export const groupmq: Contender = {
  label: 'groupmq',
  title: 'groupmq, a group per company',
  packages: ['groupmq', 'ioredis', 'pg'],
  settings: { concurrency: CONCURRENCY, connections: CONNECTIONS, statements: 'parameterized' },
  writesRows: true,

  async open({ databaseUrl, redisUrl }, runs) {
    const pool = await openPool(databaseUrl, CONNECTIONS);
    const oneAtATime = new OneAtATime();
    const { Queue, Worker } = await import('groupmq');
    const redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
    let handled = 0;
    const phases = ['start', 'finish'] as const;
    const opened = phases.map((phase) => {
      const queue = new Queue<Run>({ redis, namespace: phase });
      const worker = new Worker<Run>({
        queue,
        concurrency: CONCURRENCY,
        async handler({ data }) {
          await oneAtATime.during(data.companyId, () =>
            inTransaction(pool, (connection) => writeRun(connection, phase, data)),
          );
          handled += 1;
        },
      });
      worker.on('error', (error) => process.emitWarning(error));
      return { phase, queue, worker };
    });
    let loaded = opened[0]!;
    return {
      async load(phase) {
        loaded = opened.find((one) => one.phase === phase)!;
        handled = 0;
        const toMessage = phase === 'start' ? startOf : finishOf;
        await pMap(runs, (run) => loaded.queue.add({ groupId: run.companyId, data: toMessage(run) }), {
          concurrency: PUBLISHERS,
        });
      },
      async drain() {
        const { queue, worker } = loaded;
        // Settles when the worker is closed.
        worker.run().catch((error: unknown) => process.emitWarning(String(error)));
        await untilDrained(async () => runs.length - handled + (await queue.getActiveCount()));
      },
      violations: () => oneAtATime.violations,
      async close() {
        await Promise.all(opened.map(({ worker }) => worker.close()));
        await Promise.all(opened.map(({ queue }) => queue.close()));
        redis.disconnect();
        await pool.end();
      },
    };
  },
};
