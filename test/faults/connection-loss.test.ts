import { expect, test } from 'vitest';
import { openProducer, useQueues } from '../consumers/fixture.ts';
import { spawnWorker } from '../consumers/processes.ts';
import type { TcpProxy } from '../../testing/tcp-proxy.ts';
import { until } from '../../testing/until.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { effectsOf, effectsOnce, outcomeOnceCompleted } from './effects.ts';
import { SHORT_LOCKS } from './interrupted-worker-fixture.ts';
import { createLoad } from './load.ts';
import { openProxies } from './proxies.ts';
import type { ProxiedStores } from './proxies.ts';

const RUNS = 100;
/** Fetched one after the other, they take longer than their locks last. */
const RUNS_WHEN_SLOW = 30;

const NOTHING = effectsOnce(0, 0);
const ALL_ONCE = { ...effectsOnce(RUNS, 0), violations: [] };

/** A store of a worker, and the event that the worker logs when it is unreachable. */
interface ProxiedStore {
  name: string;
  proxyOf: (stores: ProxiedStores) => TcpProxy;
  event: string;
}

const STORES: ProxiedStore[] = [
  { name: 'Postgres', proxyOf: (stores) => stores.databaseProxy, event: 'database_unreachable' },
  { name: 'the queue', proxyOf: (stores) => stores.queueProxy, event: 'queue_connection_error' },
];

for (const { name, proxyOf, event } of STORES) {
  describeOnEachBackend(`a worker whose connections to ${name} fail under load`, (backend) => {
    const { database } = backend;
    const queue = useQueues(backend);

    /** Breaks the connections of a busy worker, heals them once it has logged that, and returns the outcome. */
    async function outcomeOfBreaking(breakConnections: (proxy: TcpProxy) => void) {
      const stores = await openProxies(backend);
      const worker = spawnWorker(stores, SHORT_LOCKS);
      await worker.untilLogged('worker started');
      const producer = openProducer(backend);
      const [before, meanwhile] = [createLoad(producer, RUNS / 2), createLoad(producer, RUNS / 2)];
      const publishing = before.starts();
      await until(async () => (await effectsOf(database.sql, before.runIds)).leases > 0, { what: 'the first lease' });
      breakConnections(proxyOf(stores));
      await Promise.all([publishing, meanwhile.starts(), worker.untilLogged(`"event":"${event}"`)]);
      expect(await effectsOf(database.sql, meanwhile.runIds), 'effects while a store is unreachable').toEqual(NOTHING);
      proxyOf(stores).heal();
      return outcomeOnceCompleted(queue, database.sql, [...before.runIds, ...meanwhile.runIds]);
    }

    test('no-loss: every job has its effect once while connections are slow', async () => {
      const stores = await openProxies(backend);
      proxyOf(stores).slow(50);
      const worker = spawnWorker(stores, SHORT_LOCKS);
      await worker.untilLogged('worker started');
      const { runIds, starts } = createLoad(openProducer(backend), RUNS_WHEN_SLOW);
      await starts();
      const outcome = await outcomeOnceCompleted(queue, database.sql, runIds);
      expect(outcome).toEqual({ ...effectsOnce(RUNS_WHEN_SLOW, 0), violations: [] });
    });

    test('no-loss: every job has its effect once after connections were closed and rejected for a while', async () => {
      expect(await outcomeOfBreaking((proxy) => proxy.cut())).toEqual(ALL_ONCE);
    });

    test('no-loss: every job has its effect once after connections fell silent, as the worker replaces them', async () => {
      expect(await outcomeOfBreaking((proxy) => proxy.silence())).toEqual(ALL_ONCE);
    });
  });
}
