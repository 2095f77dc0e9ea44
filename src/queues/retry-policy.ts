import type { JobsOptions } from 'bullmq';
import type { OperationQueueName } from './names.ts';

/**
 * Retries of what failed for a reason that can pass, such as a lost deadlock: from half a second to about four
 * minutes, nine minutes in all, with jitter so that jobs that failed together are not retried together. Refusals are
 * never retried, and neither waiting for a workspace nor an outage of Postgres spends an attempt.
 */
const TRANSIENT_RETRIES = {
  attempts: 11,
  backoff: { type: 'exponential', delay: 500, jitter: 0.5 },
} satisfies JobsOptions;

/**
 * Retries of cleaning up after a lease. What stands in the way, such as a host that is down or a replica of an older
 * version, takes longer to pass: from half a second to ten minutes, twenty minutes in all, with jitter.
 */
const CLEANUP_RETRIES = {
  attempts: 12,
  backoff: { type: 'exponential', delay: 600, jitter: 0.5 },
} satisfies JobsOptions;

/** A failed job stays for an operator to look at and retry. */
const KEEP_FAILED = { age: 30 * 24 * 60 * 60, count: 100_000 };

/** A finished job stays long enough for whoever waits for it to read its result, and for people to look at. */
const KEEP_COMPLETED = { age: 60 * 60, count: 50_000 };

/** A heartbeat's result is read at once, by its holder. */
const KEEP_COMPLETED_HEARTBEATS = { age: 5 * 60, count: 5_000 };

/** Job options by queue. They bind only the producer of this package: a client in another language sets its own. */
export const JOB_OPTIONS: Readonly<Record<OperationQueueName, JobsOptions>> = {
  'run-started': { ...TRANSIENT_RETRIES, removeOnComplete: KEEP_COMPLETED, removeOnFail: KEEP_FAILED },
  'run-finished': { ...TRANSIENT_RETRIES, removeOnComplete: KEEP_COMPLETED, removeOnFail: KEEP_FAILED },
  'run-heartbeat': { ...TRANSIENT_RETRIES, removeOnComplete: KEEP_COMPLETED_HEARTBEATS, removeOnFail: KEEP_FAILED },
  'lease-release': { ...CLEANUP_RETRIES, removeOnComplete: KEEP_COMPLETED, removeOnFail: KEEP_FAILED },
};
