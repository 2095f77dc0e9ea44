import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { describeOnOwnRedis } from './own-servers.ts';
import { ALL_ONCE, outcomeOfRestarts } from './restart-outcome.ts';

describeOnOwnRedis('a durable Redis under load', (redis) => {
  const database = useDatabase();

  test.for([
    ['is restarted', 'SIGTERM'],
    ['is killed and started again', 'SIGKILL'],
  ] as const)('no-loss: every job has its effect once when Redis %s', async ([, signal]) => {
    const stores = { database, queueUrl: redis.server.url, prefix: 'lessor' };
    expect(await outcomeOfRestarts(stores, database.sql, () => redis.server.restart(signal))).toEqual(ALL_ONCE);
  });
});
