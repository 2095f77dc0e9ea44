import {
  InvalidConfigurationError,
  LeaseLostError,
  RunEndedError,
  idSchema,
  parse,
  runHeartbeatResultSchema,
  runStartedResultSchema,
} from '../contracts/index.ts';
import type { GrantedLease, PayloadQueueName, RunHeartbeatResult } from '../contracts/index.ts';
import { jobIds } from '../queues/job-options.ts';
import { openQueues } from '../queues/queues.ts';
import { JobResults } from './job-results.ts';
import { PublishBuffer } from '../queues/publish-buffer.ts';
import { Publisher } from '../queues/publisher.ts';
import { runJobs } from '../queues/run-jobs.ts';
import type { PublishedJob, RunEnd, RunJob, RunHeartbeatInput, RunStart } from '../queues/run-jobs.ts';

/** Where a producer publishes, and how long it tries. */
export interface HeartbeatProducerOptions {
  /** `redis://…`, `rediss://…` or `postgres://…`, the same as the workers'. */
  queueUrl: string;
  /** How long publishing may take before it fails, in milliseconds; default 5000. */
  publishTimeoutMs?: number;
  /**
   * How long a message is buffered while the queue is unreachable, in milliseconds. It is published when the queue is
   * back, and rejected after this time. Default none: publishing fails as soon as the queue is known to be unreachable.
   *
   * The buffer is in memory only: a message is safe once publishing has resolved. Messages of one run are published in
   * order. A heartbeat of {@link HeartbeatProducer.renewLease} is buffered no longer than the call waits.
   */
  bufferMs?: number;
  /** Most messages buffered; publishing more fails immediately. Default 10000. */
  bufferLimit?: number;
  /** The BullMQ prefix on Redis; default `lessor`. */
  prefix?: string;
  /** Called with connection errors; the producer reconnects on its own. Default none. */
  onConnectionError?: (error: Error) => void;
  /** The clock that fills in `startedAt`, `finishedAt` and `at`; default the process's. */
  now?: () => Date;
}

export type { PublishedJob, RunEnd, RunHeartbeatInput, RunStart };

/**
 * Publishes the events of heartbeat runs. Every method validates its input before anything is sent
 * ({@link InvalidPayloadError}), and fails within the publish timeout when the queue cannot be reached
 * ({@link QueueUnreachableError}), or with `bufferMs` once that has passed. Publishing an event of a run again is harmless.
 */
export interface HeartbeatProducer {
  runStarted(run: RunStart): Promise<PublishedJob>;
  runFinished(run: RunEnd): Promise<PublishedJob>;
  runHeartbeat(run: RunHeartbeatInput): Promise<PublishedJob>;
  /**
   * Waits until the run is granted its lease.
   * @throws {RejectedError} when it is rejected; its `code` says why
   * @throws {RunEndedError} when the run has ended already
   * @throws {LeaseLostError} when the lease has expired already
   * @throws {LeaseWaitTimeoutError} when neither has happened within `timeoutMs` (default 30000)
   * @throws {JobFailedError} when the workers gave up on it
   */
  waitForLease(runId: string, options?: WaitOptions): Promise<GrantedLease>;
  /** Publishes a heartbeat and waits for the run's leases after it. Throws as {@link waitForLease} does. */
  renewLease(run: RunHeartbeatInput, options?: WaitOptions): Promise<RunHeartbeatResult>;
  /** Ends all waits, rejects what is buffered, and disconnects. */
  close(): Promise<void>;
}

/** How long to wait, in milliseconds, and a signal that ends the wait. */
export interface WaitOptions {
  timeoutMs?: number;
  signal?: AbortSignal;
}

const DEFAULT_PUBLISH_TIMEOUT_MS = 5_000;
const DEFAULT_WAIT_TIMEOUT_MS = 30_000;
const DEFAULT_BUFFER_LIMIT = 10_000;

/** The longest delay of a Node timer. */
const MAX_BUFFER_MS = 2_147_483_647;

/**
 * Creates a producer. It connects when it first publishes.
 * @throws {InvalidConfigurationError} when something in the queue URL is not understood, or `bufferMs` or
 * `bufferLimit` is not a whole number above 0
 */
export function createHeartbeatProducer(options: HeartbeatProducerOptions): HeartbeatProducer {
  const { bufferMs, bufferLimit = DEFAULT_BUFFER_LIMIT } = options;
  assertWholeNumber('bufferMs', bufferMs ?? 1, MAX_BUFFER_MS);
  assertWholeNumber('bufferLimit', bufferLimit, Number.MAX_SAFE_INTEGER);
  const queues = openQueues(options.queueUrl, {
    role: 'producer',
    prefix: options.prefix,
    onError: options.onConnectionError ?? (() => undefined),
  });
  const publisher = new Publisher(queues, options.publishTimeoutMs ?? DEFAULT_PUBLISH_TIMEOUT_MS);
  const results = new JobResults(queues, publisher);
  const buffer = new PublishBuffer(bufferLimit);
  const now = options.now ?? (() => new Date());
  const publish = async (
    { queue, jobId, payload }: RunJob<PayloadQueueName, { companyId: string; runId: string }>,
    { timeoutMs = Number.POSITIVE_INFINITY, signal }: WaitOptions = {},
  ): Promise<PublishedJob> => {
    const send = (abandoned?: AbortSignal) => publisher.publish(queue, jobId, payload, abandoned);
    if (bufferMs === undefined) await send();
    else await buffer.publish(payload.runId, { send, maxBufferMs: Math.min(bufferMs, timeoutMs), signal });
    return { jobId };
  };

  return {
    async runStarted(run) {
      return publish(runJobs.started(run, now()));
    },

    async runFinished(run) {
      return publish(runJobs.finished(run, now()));
    },

    async runHeartbeat(run) {
      return publish(runJobs.heartbeat(run, now()));
    },

    async waitForLease(runId, { timeoutMs = DEFAULT_WAIT_TIMEOUT_MS, signal } = {}) {
      const jobId = jobIds.runStarted({ runId: parse(idSchema, runId, 'run id') });
      const result = await results.waitFor('run-started', jobId, { runId, timeoutMs, signal });
      const lease = runStartedResultSchema.parse(result);
      if (lease === null || lease.status === 'released' || lease.status === 'failed') throw new RunEndedError(runId);
      if (lease.status !== 'active') throw new LeaseLostError(lease.id, `it is ${lease.status}`);
      return lease;
    },

    async renewLease(run, wait = {}) {
      const { timeoutMs = DEFAULT_WAIT_TIMEOUT_MS, signal } = wait;
      const { jobId } = await publish(runJobs.heartbeat(run, now()), { ...wait, timeoutMs });
      const result = await results.waitFor('run-heartbeat', jobId, { runId: run.runId, timeoutMs, signal });
      return runHeartbeatResultSchema.parse(result);
    },

    async close() {
      buffer.close();
      await results.close();
      await publisher.close();
      await queues.close();
    },
  };
}

function assertWholeNumber(option: string, value: number, maximum: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= maximum) return;
  throw new InvalidConfigurationError(`${option} must be a whole number from 1 to ${maximum}`);
}
