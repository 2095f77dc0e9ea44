import { expect, test } from 'vitest';
import { openProducer, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import type { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';
import { effectsOf, effectsOnce, outcomeOnceServed } from './effects.ts';
import { SHORT_LOCKS } from './interrupted-worker.ts';
import { createLoad } from './load.ts';
import { openProxies } from './proxies.ts';
import type { ProxiedStores } from './proxies.ts';

const RUNS = 100;
/** Taken up one after the other, they take longer than their locks last. */
const RUNS_WHEN_SLOW = 30;

const NOTHING = effectsOnce(0, 0);
const SOUNDLY = { ...effectsOnce(RUNS, 0), violations: [] };

/** One store of a worker, and how the worker tells that it is away. */
export interface BrokenStore {
  name: string;
  proxyOf: (stores: ProxiedStores) => TcpProxy;
  toldAs: string;
}

/** Breaks a worker's connections to one of its stores in every way that connections break, each time under load. */
export function describeBrokenConnections({ name, proxyOf, toldAs }: BrokenStore): void {
  describeOnEachBackend(`a worker whose connections to ${name} break`, (backend) => {
    const { database } = backend;
    const queue = useQueues(backend);

    /** Breaks the connections of a worker that is at work, mends them once it has told so, and looks at what came of it. */
    async function outcomeOfBreaking(breakIt: (proxy: TcpProxy) => void) {
      const stores = await openProxies(backend);
      const worker = spawnWorker(stores, SHORT_LOCKS);
      await worker.untilLogged('worker started');
      const producer = openProducer(backend);
      const [before, meanwhile] = [createLoad(producer, RUNS / 2), createLoad(producer, RUNS / 2)];
      const publishing = before.starts();
      await until(async () => (await effectsOf(database.sql, before.runIds)).leases > 0, { what: 'the first lease' });
      breakIt(proxyOf(stores));
      await Promise.all([publishing, meanwhile.starts(), worker.untilLogged(toldAs)]);
      expect(await effectsOf(database.sql, meanwhile.runIds), 'what came of a store that is away').toEqual(NOTHING);
      proxyOf(stores).heal();
      return outcomeOnceServed(queue, database.sql, [...before.runIds, ...meanwhile.runIds]);
    }

    test('no-loss: when they are slow, all is served once', async () => {
      const stores = await openProxies(backend);
      proxyOf(stores).slow(50);
      const worker = spawnWorker(stores, SHORT_LOCKS);
      await worker.untilLogged('worker started');
      const { runIds, starts } = createLoad(openProducer(backend), RUNS_WHEN_SLOW);
      await starts();
      const outcome = await outcomeOnceServed(queue, database.sql, runIds);
      expect(outcome).toEqual({ ...effectsOnce(RUNS_WHEN_SLOW, 0), violations: [] });
    });

    test('no-loss: when they are cut and cannot be made anew for a while, all is served once afterwards', async () => {
      expect(await outcomeOfBreaking((proxy) => proxy.cut())).toEqual(SOUNDLY);
    });

    test('no-loss: when they fall silent for good, the worker makes others, and all is served once', async () => {
      expect(await outcomeOfBreaking((proxy) => proxy.silence())).toEqual(SOUNDLY);
    });
  });
}
