import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  InvalidPayloadError,
  RejectedError,
  LeaseWaitTimeoutError,
  QueueUnreachableError,
  RunEndedError,
} from '../../src/contracts/index.ts';
import type { HeartbeatProducer, RunEnd, RunStart } from '../../src/producers/producer.ts';
import { QUEUE_NAMES } from '../../src/queues/job-options.ts';
import { jobInState, openProducer, startWorker, useQueues, useWorker } from '../consumers/fixture.ts';
import { runFinished, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';

const newRun = () => ({ companyId: randomUUID(), runId: randomUUID() });

const noon = () => new Date('2025-11-21T12:00:00Z');

/** What is rejected before anything is sent, and the field that the error names. */
const INVALID: [field: string, publish: (producer: HeartbeatProducer) => Promise<unknown>][] = [
  ['runId', (producer) => producer.runStarted({ ...newRun(), runId: 'run-1' })],
  ['companyId', (producer) => producer.runFinished({ ...newRun(), companyId: '', status: 'failed' })],
  ['ttlSeconds', (producer) => producer.runStarted({ ...newRun(), ttlSeconds: 0 })],
  ['ttlSeconds', (producer) => producer.runHeartbeat({ ...newRun(), ttlSeconds: 86_401 })],
  ['ttlSeconds', (producer) => producer.renewLease({ ...newRun(), ttlSeconds: 1.5 })],
  ['startedAt', (producer) => producer.runStarted({ ...newRun(), startedAt: 'today' })],
  ['metadata', (producer) => producer.runStarted({ ...newRun(), metadata: { text: 'x'.repeat(16 * 1024) } })],
  ['metadata.text', (producer) => producer.runStarted({ ...newRun(), metadata: { text: '\u0000' } })],
  ['environment', (producer) => producer.runStarted({ ...newRun(), environment: { host: 'x' } } as RunStart)],
  ['priority', (producer) => producer.runStarted({ ...newRun(), priority: 1 } as RunStart)],
  ['status', (producer) => producer.runFinished({ ...newRun(), status: 'running' } as unknown as RunEnd)],
  ['failureReason', (producer) => producer.runFinished({ ...newRun(), status: 'failed', failureReason: '\uD800' })],
];

describeOnEachBackend('publishing', (backend) => {
  const queue = useQueues(backend);

  describe('of input that does not fit the contract', () => {
    test.for(INVALID)('is rejected with the name of the field: %s', async ([field, publish]) => {
      const error: unknown = await publish(openProducer(backend)).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(InvalidPayloadError);
      expect(error).toMatchObject({ code: 'invalid_payload', name: 'InvalidPayloadError' });
      expect((error as Error).message).toContain(field);
    });

    test('adds nothing to the queue', async () => {
      const producer = openProducer(backend);
      const attempts = await Promise.allSettled(INVALID.map(([, publish]) => publish(producer)));
      expect(new Set(attempts.map(({ status }) => status))).toEqual(new Set(['rejected']));
      for (const name of QUEUE_NAMES) expect(await queue(name).getWaitingCount()).toBe(0);
    });
  });

  test('is idempotent, also across producers and letter case', async () => {
    const run = newRun();
    const { jobId } = await openProducer(backend).runStarted(run);
    const again = await openProducer(backend).runStarted({ ...run, runId: run.runId.toUpperCase() });
    expect(again).toEqual({ jobId });
    expect(jobId).toBe(`${run.runId}-started`);
    const waiting = await queue('run-started').getWaiting();
    expect(waiting.filter((job) => job.id === jobId)).toHaveLength(1);
  });

  test('keeps the first of two ends', async () => {
    const run = newRun();
    const producer = openProducer(backend);
    await producer.runFinished({ ...run, status: 'failed' });
    const { jobId } = await producer.runFinished({ ...run, status: 'succeeded' });
    expect((await queue('run-finished').getJob(jobId))?.data).toMatchObject({ status: 'failed' });
  });

  test('fills in the version and the instant', async () => {
    const run = newRun();
    const { jobId } = await openProducer(backend, { now: noon }).runHeartbeat(run);
    expect((await queue('run-heartbeat').getJob(jobId))?.data).toEqual({
      version: 1,
      ...run,
      at: noon().toISOString(),
    });
  });

  test('fails once the producer is closed, which leaves no connection open', async () => {
    const producer = openProducer(backend, { publishTimeoutMs: 1_000 });
    const underWay = Promise.allSettled([producer.runStarted(newRun()), producer.runHeartbeat(newRun())]);
    await producer.close();
    await underWay;
    await expect(producer.runStarted(newRun())).rejects.toBeInstanceOf(QueueUnreachableError);
  });

  test('publishes a thousand events concurrently without a failure or loss', async () => {
    const producer = openProducer(backend, { publishTimeoutMs: 20_000 });
    const runs = Array.from({ length: 1_000 }, newRun);
    await Promise.all(runs.map((run) => producer.runFinished({ ...run, status: 'succeeded' })));
    const counts = await queue('run-finished').getJobCounts('waiting');
    expect(counts['waiting']).toBeGreaterThanOrEqual(1_000);
  });
});

describeOnEachBackend(
  'waiting for a lease',
  (backend) => {
    const { queueUrl, prefix } = backend;
    useWorker(backend);
    const queue = useQueues(backend);

    test('works for a producer that did not publish the start', async () => {
      const run = newRun();
      await openProducer(backend).runStarted(run);
      const lease = await openProducer(backend).waitForLease(run.runId);
      expect(lease).toMatchObject({ ...run, status: 'active' });
      expect(await openProducer(backend).waitForLease(run.runId.toUpperCase())).toEqual(lease);
    });

    test('works before the start is published', async () => {
      const run = newRun();
      const waiting = openProducer(backend).waitForLease(run.runId);
      await openProducer(backend).runStarted(run);
      expect(await waiting).toMatchObject({ runId: run.runId });
    });

    test('works for fifty runs concurrently', async () => {
      const producer = openProducer(backend);
      const companyId = randomUUID();
      const runs = Array.from({ length: 50 }, () => ({ companyId, runId: randomUUID() }));
      const leases = await Promise.all(
        runs.map(async (run) => {
          await producer.runStarted(run);
          return producer.waitForLease(run.runId);
        }),
      );
      expect(leases.map((lease) => lease.runId)).toEqual(runs.map((run) => run.runId));
    });

    test('ends with the code of the rejection', async () => {
      const producer = openProducer(backend);
      const run = { ...newRun(), environment: { issue: randomUUID() } };
      await producer.runStarted(run);
      const error: unknown = await producer.waitForLease(run.runId).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(RejectedError);
      expect(error).toMatchObject({
        code: 'unknown_environment',
        message: `there is no environment ${run.environment.issue}`,
      });
    });

    test('any-order: throws RunEndedError for a run that has ended', async () => {
      const producer = openProducer(backend);
      const run = newRun();
      const { jobId } = await producer.runFinished({ ...run, status: 'cancelled' });
      await jobInState(queue('run-finished'), jobId, 'completed');
      await producer.runStarted(run);
      await expect(producer.waitForLease(run.runId)).rejects.toBeInstanceOf(RunEndedError);
    });

    test('throws for a run whose lease has ended already', async () => {
      const producer = openProducer(backend);
      const payload = runStarted();
      // The start is delivered again after the end, so what it returns is the lease as it ended.
      await queue('run-started').add('run-started', payload, { jobId: `first-${payload.runId}` });
      await jobInState(queue('run-started'), `first-${payload.runId}`, 'completed');
      await queue('run-finished').add('run-finished', runFinished(payload), { jobId: `end-${payload.runId}` });
      await jobInState(queue('run-finished'), `end-${payload.runId}`, 'completed');
      await producer.runStarted(payload);
      await expect(producer.waitForLease(payload.runId)).rejects.toBeInstanceOf(RunEndedError);
    });

    test('closing the producer ends it immediately with a typed error', async () => {
      const producer = openProducer(backend);
      const waits = [randomUUID(), randomUUID()].map((runId) => producer.waitForLease(runId, { timeoutMs: 60_000 }));
      const outcomes = Promise.allSettled(waits);
      await producer.close();
      for (const outcome of await outcomes) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(QueueUnreachableError) });
      }
    });

    test('aborting its signal ends it with the reason', async () => {
      const cancelling = new AbortController();
      const waiting = openProducer({ queueUrl, prefix }).waitForLease(randomUUID(), { signal: cancelling.signal });
      const outcome = Promise.allSettled([waiting]);
      const reason = new Error('cancelled by its user');
      cancelling.abort(reason);
      expect(await outcome).toEqual([{ status: 'rejected', reason }]);
    });
  },
  { audited: true },
);

describeOnEachBackend('without a worker', (backend) => {
  test('waiting for a lease times out, and the run may be granted one later', async () => {
    const producer = openProducer(backend);
    const run = newRun();
    await producer.runStarted(run);
    const before = performance.now();
    const waiting = producer.waitForLease(run.runId, { timeoutMs: 500 });
    await expect(waiting).rejects.toBeInstanceOf(LeaseWaitTimeoutError);
    expect(performance.now() - before).toBeLessThan(2_500);
    await startWorker(backend);
    expect(await producer.waitForLease(run.runId)).toMatchObject({ runId: run.runId, status: 'active' });
  });
});
