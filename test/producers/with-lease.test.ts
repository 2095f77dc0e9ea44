import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { expect, onTestFinished, test, vi } from 'vitest';
import { RejectedError, LeaseLostError, QueueUnreachableError } from '../../src/contracts/index.ts';
import { environmentService } from '../../src/environments/service/index.ts';
import { withLease } from '../../src/producers/with-lease.ts';
import { openProducer, startWorker, useWorker } from '../consumers/fixture.ts';
import { readLease } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';

const newRun = (ttlSeconds = 60) => ({ companyId: randomUUID(), runId: randomUUID(), ttlSeconds });

/** Work that lasts until its signal is aborted, and gives up then. */
const raceAbort = async (signal: AbortSignal): Promise<never> => {
  if (!signal.aborted) await once(signal, 'abort');
  throw new Error('the work was stopped');
};

const errorOf = (attempt: Promise<unknown>): Promise<unknown> =>
  attempt.then(
    () => 'it did not fail',
    (reason: unknown) => reason,
  );

const outcomeOf = (code: number) => ({ status: 'failed', failureReason: `exited with ${code}` }) as const;

describeOnEachBackend(
  'withLease',
  (backend) => {
    const { database } = backend;
    useWorker(backend, { sweepIntervalMs: 200 });

    /** The run and its lease, once the run has ended. */
    const endOf = (runId: string) =>
      until(async () => {
        const [end] = await database.sql<{ run: string; reason: string | null; lease: string }[]>`
          select run.status as run, run.failure_reason as reason, lease.status as lease
          from lessor.heartbeat_runs run join lessor.environment_leases lease on lease.heartbeat_run_id = run.id
          where run.id = ${runId} and run.finished_at is not null`;
        return end;
      });

    test("returns the work's result, and the run is succeeded", async () => {
      const run = newRun();
      const result = await withLease(openProducer(backend), run, async (lease) => {
        expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'active' });
        return `in ${lease.environment.name}`;
      });
      expect(result).toBe('in Local');
      expect(await endOf(run.runId)).toEqual({ run: 'succeeded', reason: null, lease: 'released' });
    });

    test("throws the work's error, and the run is failed with its message", async () => {
      const run = newRun();
      const fault = new Error('out of memory');
      const thrown = await errorOf(withLease(openProducer(backend), run, () => Promise.reject(fault)));
      expect(thrown).toBe(fault);
      expect(await endOf(run.runId)).toEqual({ run: 'failed', reason: 'out of memory', lease: 'failed' });
    });

    test('sanitizes an error message that Postgres cannot store', async () => {
      const run = newRun();
      const fault = new Error('bo\u0000om \uD800');
      expect(await errorOf(withLease(openProducer(backend), run, () => Promise.reject(fault)))).toBe(fault);
      expect(await endOf(run.runId)).toMatchObject({ run: 'failed', reason: 'bo\uFFFDom \uFFFD' });
    });

    test('a run whose signal is aborted is cancelled', async () => {
      const run = newRun();
      const cancelling = new AbortController();
      const work = withLease(
        openProducer(backend),
        run,
        (_lease, signal) => {
          cancelling.abort();
          return raceAbort(signal);
        },
        { signal: cancelling.signal },
      );
      await expect(work).rejects.toThrow('the work was stopped');
      expect(await endOf(run.runId)).toMatchObject({ run: 'cancelled', lease: 'released' });
    });

    test('a run past its time limit is timed_out', async () => {
      const run = newRun();
      const work = withLease(openProducer(backend), run, (_lease, signal) => raceAbort(signal), { timeoutMs: 100 });
      await expect(work).rejects.toThrow('the work was stopped');
      expect(await endOf(run.runId)).toMatchObject({ run: 'timed_out', lease: 'failed' });
      expect((await endOf(run.runId)).reason).toContain('100 ms');
    });

    test('outcomeOf decides the outcome of work that returned', async () => {
      const run = newRun();
      expect(await withLease(openProducer(backend), run, async () => 3, { outcomeOf })).toBe(3);
      expect(await endOf(run.runId)).toEqual({ run: 'failed', reason: 'exited with 3', lease: 'failed' });
    });

    test('a rejected run does no work, and is failed with the reason', async () => {
      const run = { ...newRun(), environment: { agent: randomUUID() } };
      let hasWorked = false;
      const work = withLease(openProducer(backend), run, async () => {
        hasWorked = true;
      });
      await expect(work).rejects.toBeInstanceOf(RejectedError);
      expect(hasWorked).toBe(false);
    });

    test('no-leak: work that lasts longer than its ttl keeps its lease', async () => {
      const run = newRun(4);
      const status = await withLease(openProducer(backend), run, async (lease, signal) => {
        await until(() => Date.now() > Date.parse(lease.expiresAt) + 200);
        expect(signal.aborted).toBe(false);
        return (await readLease(database.sql, lease.id)).status;
      });
      expect(status).toBe('active');
      expect(await endOf(run.runId)).toEqual({ run: 'succeeded', reason: null, lease: 'released' });
    });

    test('work whose lease is ended by others is aborted, and the run is failed', async () => {
      const run = newRun(6);
      let reason: unknown;
      const work = withLease(openProducer(backend), run, async (lease, signal) => {
        await environmentService(database.db).releaseLease(lease.id);
        if (!signal.aborted) await once(signal, 'abort');
        reason = signal.reason;
        return 'returned all the same';
      });
      await expect(work).rejects.toBeInstanceOf(LeaseLostError);
      expect(reason).toBeInstanceOf(LeaseLostError);
      const end = await endOf(run.runId);
      expect(end).toMatchObject({ run: 'failed', lease: 'released' });
      expect(end.reason).toMatch(/^lease [0-9a-f-]{36} is lost: it is released$/);
    });

    test('a run that waited longer than a third of its ttl is renewed before its work starts', async () => {
      const { companyId } = newRun();
      const executionWorkspaceId = randomUUID();
      const holder = { companyId, executionWorkspaceId, runId: randomUUID(), ttlSeconds: 60 };
      const waiter = { companyId, executionWorkspaceId, runId: randomUUID(), ttlSeconds: 3 };
      const producer = openProducer(backend);
      await producer.runStarted(holder);
      await producer.waitForLease(holder.runId);
      const requestedAt = performance.now();
      const work = withLease(producer, waiter, async (lease) => {
        const { expires_at } = await readLease(database.sql, lease.id);
        return expires_at.getTime() - Date.parse(lease.expiresAt);
      });
      await until(() => performance.now() - requestedAt > (waiter.ttlSeconds * 1_000) / 3);
      await producer.runFinished({ companyId, runId: holder.runId, status: 'succeeded' });
      expect(await work).toBeGreaterThan(0);
    });

    test.for([-3_600_000, 3_600_000])(
      'a clock that is off by %i ms does not make a lease that is about to expire look new',
      async (offMs) => {
        const run = newRun(30);
        const producer = openProducer(backend);
        await producer.runStarted(run);
        const old = await producer.waitForLease(run.runId);
        await database.sql`
          update lessor.environment_leases set expires_at = now() + interval '2 s' where id = ${old.id}`;
        vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offMs });
        onTestFinished(() => void vi.useRealTimers());
        const left = await withLease(producer, run, async (lease) => {
          const [{ seconds }] = await database.sql<[{ seconds: number }]>`
            select extract(epoch from expires_at - now())::float8 as seconds
            from lessor.environment_leases where id = ${lease.id}`;
          return seconds;
        });
        expect(left).toBeGreaterThan(20);
      },
    );

    test('no-loss: publishing the end is retried', async () => {
      const run = newRun();
      const producer = openProducer(backend);
      let failures = 0;
      const away: typeof producer = {
        ...producer,
        runFinished: async (end) => {
          failures += 1;
          if (failures <= 2) throw new QueueUnreachableError('it is being restarted');
          return producer.runFinished(end);
        },
      };
      expect(await withLease(away, run, async () => 'done')).toBe('done');
      expect(failures).toBe(3);
      expect(await endOf(run.runId)).toMatchObject({ run: 'succeeded', lease: 'released' });
    });

    test("an end that cannot be published in time is an error, in addition to the work's", async () => {
      const producer = openProducer(backend);
      const away: typeof producer = {
        ...producer,
        runFinished: () => Promise.reject(new QueueUnreachableError('it is gone')),
      };
      const options = { endTimeoutMs: 1 };
      await expect(withLease(away, newRun(), async () => 'done', options)).rejects.toBeInstanceOf(
        QueueUnreachableError,
      );
      const both = await errorOf(withLease(away, newRun(), () => Promise.reject(new Error('boom')), options));
      expect(both).toBeInstanceOf(AggregateError);
      expect((both as AggregateError).errors).toMatchObject([{ message: 'boom' }, { code: 'queue_unreachable' }]);
    });
  },
  { audited: true },
);

describeOnEachBackend('withLease, when no renewal succeeds', (backend) => {
  test('work is aborted before the lease expires in the database', async () => {
    const { sql } = backend.database;
    const worker = await startWorker(backend);
    const run = newRun(2);
    let leaseId = '';
    let stoppedAt = Infinity;
    const stopped = withLease(
      openProducer(backend),
      run,
      async (lease, signal) => {
        leaseId = lease.id;
        await worker.close();
        if (!signal.aborted) await once(signal, 'abort');
        stoppedAt = Date.now();
        throw signal.reason;
      },
      { leaseWaitMs: 10_000 },
    );
    await expect(stopped).rejects.toBeInstanceOf(LeaseLostError);
    const { expires_at } = await readLease(sql, leaseId);
    expect(stoppedAt).toBeLessThan(expires_at.getTime());

    // By the end that was published, or by the sweep, whichever comes first.
    await startWorker(backend, { sweepIntervalMs: 200 });
    await until(async () => ['failed', 'expired'].includes((await readLease(sql, leaseId)).status));
  });
});
