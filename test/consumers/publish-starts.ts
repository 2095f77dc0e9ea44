import { text } from 'node:stream/consumers';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import type { RunStart } from '../../src/producers/producer.ts';

/** A heartbeat service in a separate process: publishes the starts from its stdin concurrently. */
const { QUEUE_URL: queueUrl = '', QUEUE_PREFIX: prefix = '' } = process.env;
const producer = createHeartbeatProducer({ queueUrl, prefix, publishTimeoutMs: 20_000 });
try {
  const starts = JSON.parse(await text(process.stdin)) as RunStart[];
  await Promise.all(starts.map((start) => producer.runStarted(start)));
} finally {
  await producer.close();
}
