import { openBullMq } from './bullmq.ts';
import type { Contender } from './contender.ts';
import { inTransaction, lockCompany, openPool, writeRun } from './statements.ts';

const CONCURRENCY = 50;
const CONNECTIONS = 20;

export const perJobTransaction: Contender = {
  label: 'one transaction per job',
  title: 'BullMQ, one transaction per job with a company lock',
  packages: ['bullmq', 'ioredis', 'pg'],
  settings: { concurrency: CONCURRENCY, connections: CONNECTIONS, statements: 'parameterized' },
  writesRows: true,

  async open({ databaseUrl, redisUrl }, runs) {
    const pool = await openPool(databaseUrl, CONNECTIONS);
    const bullMq = await openBullMq(redisUrl, CONCURRENCY, runs, (phase, run) =>
      inTransaction(pool, async (connection) => {
        await lockCompany(connection, run.companyId);
        await writeRun(connection, phase, run);
      }),
    );
    return {
      ...bullMq,
      violations: () => [],
      async close() {
        await bullMq.close();
        await pool.end();
      },
    };
  },
};
