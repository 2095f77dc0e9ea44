import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { QueueUnreachableError } from '../../src/contracts/index.ts';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import { whyNoRedisServer } from '../../testing/stores/redis-server.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';

const notRun = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

/** Enough for a command of one of them to be in flight whenever Redis is killed. */
const WAITS = 300;

test.skipIf(whyNoRedisServer !== undefined)(
  `each wait for a lease rejects when Redis is killed, and nothing else does${notRun}`,
  async () => {
    const redis = await startRestartableRedis();
    onTestFinished(() => redis.close());
    const producer = createHeartbeatProducer({ queueUrl: redis.url });
    onTestFinished(() => producer.close());
    const runs = Array.from({ length: WAITS }, () => ({ companyId: randomUUID(), runId: randomUUID() }));
    await Promise.all(runs.map((run) => producer.runStarted(run)));
    const waits = runs.map(({ runId }) => producer.waitForLease(runId, { timeoutMs: 1_500 }));
    const ended = Promise.allSettled(waits);
    await redis.stop('SIGKILL');
    // An unhandled rejection fails the test, as it would end a heartbeat service.
    for (const wait of await ended) {
      expect(wait).toMatchObject({ status: 'rejected', reason: expect.any(QueueUnreachableError) as unknown });
    }
    await redis.start();
  },
);
