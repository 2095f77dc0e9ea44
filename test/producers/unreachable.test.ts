import { randomUUID } from 'node:crypto';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { QueueUnreachableError } from '../../src/contracts/index.ts';
import { openProducer } from '../consumers/fixture.ts';
import { freePort, startRedisServer, whyNoRedisServer } from '../queues/redis-server.ts';
import { listenOnLoopback } from '../support/listen-on-loopback.ts';
import { until } from '../../testing/until.ts';

const PUBLISH_TIMEOUT_MS = 1_000;

/** What a busy machine may add to a timeout. */
const MARGIN_MS = 1_500;

const newRun = () => ({ companyId: randomUUID(), runId: randomUUID() });

const urlOn = {
  redis: (port: number) => `redis://127.0.0.1:${port}`,
  postgres: (port: number) => `postgres://nobody@127.0.0.1:${port}/x`,
};

const producerOn = (queueUrl: string) =>
  openProducer({ queueUrl, prefix: 'lessor' }, { publishTimeoutMs: PUBLISH_TIMEOUT_MS });

/** How an attempt failed, and after how long. */
async function failureOf(attempt: Promise<unknown>): Promise<{ error: unknown; afterMs: number }> {
  const before = performance.now();
  const error: unknown = await attempt.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  return { error, afterMs: performance.now() - before };
}

/** A server that accepts connections and never says a word. */
async function startSilentServer(): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  return listenOnLoopback(server, () => {
    for (const socket of sockets) socket.destroy();
  });
}

describe.each(['redis', 'postgres'] as const)('publishing to %s fails in time', (kind) => {
  test('when nothing listens, each time again', async () => {
    const producer = producerOn(urlOn[kind](await freePort()));
    for (const publish of [
      () => producer.runStarted(newRun()),
      () => producer.runHeartbeat(newRun()),
      () => producer.runFinished({ ...newRun(), status: 'failed' }),
    ]) {
      const { error, afterMs } = await failureOf(publish());
      expect(error).toBeInstanceOf(QueueUnreachableError);
      expect(afterMs).toBeLessThan(PUBLISH_TIMEOUT_MS + MARGIN_MS);
    }
  });

  test('when the server accepts the connection and never answers', async () => {
    const producer = producerOn(urlOn[kind](await startSilentServer()));
    const { error, afterMs } = await failureOf(producer.runStarted(newRun()));
    expect(error).toBeInstanceOf(QueueUnreachableError);
    expect((error as Error).message).toContain('check QUEUE_URL');
    expect(afterMs).toBeLessThan(PUBLISH_TIMEOUT_MS + MARGIN_MS);
  });

  test('also for waitForLease', async () => {
    const producer = producerOn(urlOn[kind](await freePort()));
    const { error, afterMs } = await failureOf(producer.waitForLease(randomUUID(), { timeoutMs: 500 }));
    expect(error).toBeInstanceOf(QueueUnreachableError);
    expect(afterMs).toBeLessThan(500 + MARGIN_MS);
  });

  test('and closing such a producer is as fast', async () => {
    const producer = producerOn(urlOn[kind](await startSilentServer()));
    await failureOf(producer.runStarted(newRun()));
    const before = performance.now();
    await producer.close();
    expect(performance.now() - before).toBeLessThan(PUBLISH_TIMEOUT_MS + MARGIN_MS);
  });

  test('without showing the password of the queue', async () => {
    const url = urlOn[kind](await freePort()).replace(/\/\/(nobody@)?/, '//user:secret@');
    const { error } = await failureOf(producerOn(url).runStarted(newRun()));
    expect((error as Error).message).not.toContain('secret');
  });
});

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

describe.skipIf(whyNoRedisServer !== undefined)(`a producer survives a Redis outage${unlessRunnable}`, () => {
  test('publishes once Redis is reachable', async () => {
    const port = await freePort();
    const producer = producerOn(urlOn.redis(port));
    const run = newRun();
    expect((await failureOf(producer.runStarted(run))).error).toBeInstanceOf(QueueUnreachableError);
    await startRedisServer(port);
    expect(await until(() => producer.runStarted(run))).toEqual({ jobId: `${run.runId}-started` });
  });

  test('publishes again after Redis was restarted', async () => {
    const port = await freePort();
    const first = await startRedisServer(port);
    const producer = producerOn(urlOn.redis(port));
    await producer.runStarted(newRun());
    await first.stop();
    const { error, afterMs } = await failureOf(producer.runStarted(newRun()));
    expect(error).toBeInstanceOf(QueueUnreachableError);
    expect(afterMs).toBeLessThan(PUBLISH_TIMEOUT_MS + MARGIN_MS);
    const second = await startRedisServer(port);
    const { jobId } = await until(() => producer.runStarted(newRun()));
    expect(await second.call('EXISTS', `lessor:run-started:${jobId}`)).toBe(1);
  });

  test('does not publish later what failed to be published', async () => {
    const port = await freePort();
    const producer = producerOn(urlOn.redis(port));
    const lost = newRun();
    expect((await failureOf(producer.runStarted(lost))).error).toBeInstanceOf(QueueUnreachableError);
    const redis = await startRedisServer(port);
    await until(() => producer.runStarted(newRun()));
    expect(await redis.call('EXISTS', `lessor:run-started:${lost.runId}-started`)).toBe(0);
  });
});
