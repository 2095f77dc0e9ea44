import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openQueues } from '../../../src/queues/queues.ts';
import { startWorker, openProducer } from '../../consumers/fixture.ts';
import { useDatabase } from '../../support/database.ts';
import { readLease } from '../../support/operations.ts';
import { until } from '../../../testing/until.ts';
import { freePort, startRedisServer, startSentinel, whyNoRedisServer } from '../redis-server.ts';

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

describe.skipIf(whyNoRedisServer !== undefined)(`a run's lease from start to end${unlessRunnable}`, () => {
  const database = useDatabase({ audited: true });

  async function runOnce(queueUrl: string): Promise<string> {
    const backend = { kind: 'redis', queueUrl, prefix: 'lessor', database } as const;
    await startWorker(backend);
    const producer = openProducer(backend);
    const run = { companyId: randomUUID(), runId: randomUUID() };
    await producer.runStarted({ ...run, ttlSeconds: 60 });
    const { id } = await producer.waitForLease(run.runId);
    expect((await producer.renewLease(run)).leases).toMatchObject([{ id, status: 'active' }]);
    await producer.runFinished({ ...run, status: 'succeeded' });
    return until(async () => {
      const { status } = await readLease(database.sql, id);
      return status !== 'active' && status;
    });
  }

  test('works on Redis Cluster, and durability is read from its masters', async () => {
    const port = await freePort();
    const node = await startRedisServer(port, {
      'cluster-enabled': 'yes',
      'cluster-port': String(await freePort()),
      // A node without peers does not know its own address.
      'cluster-announce-ip': '127.0.0.1',
      'maxmemory-policy': 'allkeys-lru',
    });
    await node.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await until(async () => String(await node.call('CLUSTER', 'INFO')).includes('cluster_state:ok'));
    const url = `redis://127.0.0.1:${port}?cluster=true&node=127.0.0.1:${port}`;
    expect(await runOnce(url)).toBe('released');

    const queues = openQueues(url, { role: 'consumer', onError: () => undefined });
    onTestFinished(() => queues.close());
    expect(await queues.durability()).toEqual({ known: true, evictionPolicy: 'allkeys-lru', survivesRestart: false });
  });

  test('works on the master that a sentinel names', async () => {
    const master = await startRedisServer(await freePort());
    const sentinel = await startSentinel(await freePort(), 'lessor-master', master.port);
    expect(await runOnce(`redis://127.0.0.1:${sentinel.port}?sentinel=lessor-master`)).toBe('released');
    expect(String(await master.call('KEYS', 'lessor:*'))).toContain('lessor:run-started');
  });
});
