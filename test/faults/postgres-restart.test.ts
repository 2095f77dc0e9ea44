import { expect, test } from 'vitest';
import { describeOnEachBackend } from '../support/queues.ts';
import { useOwnPostgres } from './own-servers.ts';
import { ALL_ONCE, outcomeOfRestarts } from './restart-outcome.ts';

describeOnEachBackend('Postgres under load', ({ kind, queueUrl, prefix }) => {
  const own = useOwnPostgres();

  test.for([
    ['is restarted', 'fast'],
    ['crashes and recovers', 'immediate'],
  ] as const)('no-loss: every job has its effect once when Postgres %s', async ([, mode]) => {
    const database = own.server;
    const stores = { database, queueUrl: kind === 'postgres' ? database.url : queueUrl, prefix };
    expect(await outcomeOfRestarts(stores, own.sql, () => own.server.restart(mode))).toEqual(ALL_ONCE);
  });
});
