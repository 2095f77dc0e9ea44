import type { Sql } from 'postgres';
import { openProducer } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import type { ProcessStores } from '../consumers/processes.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, effectsOnce, outcomeOnceCompleted, untilEffects } from './effects.ts';
import { SHORT_LOCKS } from './interrupted-worker-fixture.ts';
import { createLoad } from './load.ts';
import { openQueuesOf } from './own-servers.ts';

const RUNS = 200;

/** The outcome of runs that all start and succeed, whatever is restarted meanwhile. */
export const ALL_ONCE = { ...effectsOnce(RUNS, RUNS), violations: [] };

/** Restarts a store while starts are published and processed, and again while ends are. */
export async function outcomeOfRestarts(stores: ProcessStores, sql: Sql, restart: () => Promise<void>) {
  const workers = [spawnWorker(stores, SHORT_LOCKS), spawnWorker(stores, SHORT_LOCKS)];
  await Promise.all(workers.map((worker) => worker.untilLogged('worker started')));
  const { runIds, starts, ends } = createLoad(openProducer(stores), RUNS);

  const restartOnce = async (what: string, hasBegun: (counts: { leases: number; ended: number }) => boolean) => {
    await until(async () => hasBegun(await effectsOf(sql, runIds)), { what });
    await restart();
  };
  await Promise.all([starts(), restartOnce('the first lease', ({ leases }) => leases > 0)]);
  await untilEffects(sql, runIds, effectsOnce(RUNS, 0));
  await Promise.all([ends(), restartOnce('the first end', ({ ended }) => ended > 0)]);
  return outcomeOnceCompleted(openQueuesOf(stores), sql, runIds);
}
