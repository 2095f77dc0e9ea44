import { untilDrained } from '../until-drained.ts';
import { finishOf, startOf } from '../workload.ts';
import type { Phase, Run } from '../workload.ts';
import type { Contender } from './contender.ts';
import { OneAtATime } from './one-at-a-time.ts';
import { inTransaction, openPool, writeRun } from './statements.ts';

/**
 * As its page on performance recommends: batches, and a local queue one larger than the concurrency. From 0.18.0 on the
 * local queue holds one job of each named queue, so that they stay serialized (its issue 621).
 */
const OPTIONS = {
  concurrentJobs: 24,
  maxPoolSize: 25,
  localQueue: { size: 25 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  // A local queue that got fewer jobs than it asked for, as is usual with named queues, polls again only after this.
  pollInterval: 20,
};
const CONNECTIONS = 20;

export const graphileWorker: Contender = {
  label: 'graphile-worker',
  title: 'graphile-worker, a named queue per company',
  packages: ['graphile-worker', 'pg'],
  settings: { ...OPTIONS, connections: CONNECTIONS, statements: 'parameterized' },
  writesRows: true,

  async open({ databaseUrl }, runs) {
    const pool = await openPool(databaseUrl, CONNECTIONS);
    const oneAtATime = new OneAtATime();
    const work = (phase: Phase) => (payload: unknown) => {
      const target = payload as Run;
      return oneAtATime.during(target.companyId, () =>
        inTransaction(pool, (connection) => writeRun(connection, phase, target)),
      );
    };
    const { Logger, makeWorkerUtils, run } = await import('graphile-worker');
    const worker = { connectionString: databaseUrl, logger: new Logger(logErrors), ...OPTIONS };
    const utils = await makeWorkerUtils({ preset: { worker } });
    await utils.migrate();
    await utils.release();
    const runner = await run({
      preset: { worker },
      noHandleSignals: true,
      parsedCronItems: [],
      taskList: { start: work('start'), finish: work('finish') },
    });
    const loader = await pool.connect();
    return {
      // The jobs are invisible to the workers until they are committed.
      async load(phase) {
        const toMessage = phase === 'start' ? startOf : finishOf;
        const jobs = runs.map((target) => ({
          identifier: phase,
          payload: toMessage(target),
          queue_name: target.companyId,
        }));
        await loader.query('begin');
        await loader.query(
          `select count(*) from graphile_worker.add_jobs(
             array(select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))`,
          [JSON.stringify(jobs)],
        );
      },
      async drain() {
        await loader.query('commit');
        await untilDrained(async () => {
          const { rows } = await loader.query<{ left: number }>(
            'select count(*)::int as left from graphile_worker._private_jobs',
          );
          return rows[0]!.left;
        });
      },
      violations: () => oneAtATime.violations,
      async close() {
        await runner.stop();
        loader.release();
        await pool.end();
      },
    };
  },
};

function logErrors() {
  return (level: string, message: string) => {
    if (level === 'error') process.stderr.write(`graphile-worker: ${message}\n`);
  };
}
