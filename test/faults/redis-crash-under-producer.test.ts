import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { QueueUnreachableError } from '../../src/contracts/index.ts';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import { whyNoRedisServer } from '../../testing/stores/redis-server.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

/** So many that a command of one of them is under way whenever Redis is killed. */
const WAITS = 300;

test.skipIf(whyNoRedisServer !== undefined)(
  `a Redis that is killed under many waits for a lease rejects each of them, and nothing else${unlessRunnable}`,
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
    // What rejects with nobody to handle it fails the test by itself, as it would end a heartbeat service.
    for (const wait of await ended) {
      expect(wait).toMatchObject({ status: 'rejected', reason: expect.any(QueueUnreachableError) as unknown });
    }
    await redis.start();
  },
);
