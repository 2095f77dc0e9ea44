import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { describeOnOwnRedis } from './own-servers.ts';
import { ALL_ONCE, outcomeOfRestarts } from './restarts.ts';

describeOnOwnRedis('a Redis that keeps what it acknowledges, under load', (redis) => {
  const database = useDatabase();

  test.for([
    ['is restarted', 'SIGTERM'],
    ['is killed and started again', 'SIGKILL'],
  ] as const)('no-loss: when it %s, all is served once', async ([, signal]) => {
    const stores = { database, queueUrl: redis.server.url, prefix: 'lessor' };
    expect(await outcomeOfRestarts(stores, database.sql, () => redis.server.restart(signal))).toEqual(ALL_ONCE);
  });
});
