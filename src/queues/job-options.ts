import type { JobsOptions, KeepJobs } from 'bullmq';
import type { LeaseRelease, RunFinished, RunHeartbeat, RunStarted } from '../contracts/index.ts';
import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';
import type { BackendKind } from './backends/backend.ts';

/** Every queue of Lessor. */
export const QUEUE_NAMES = ['run-started', 'run-finished', 'run-heartbeat', 'lease-release', 'lease-sweep'] as const;
export type QueueName = (typeof QUEUE_NAMES)[number];

/** Queues whose jobs are published, each requesting an operation. Those of `lease-sweep` come from a scheduler. */
export type OperationQueueName = Exclude<QueueName, 'lease-sweep'>;

/** The BullMQ prefix of all queues. On the Postgres backend the schema `bullmq` takes its place. */
export const DEFAULT_PREFIX = 'lessor';

/**
 * Job ids are derived from the run or lease, which makes publishing idempotent. A run sends many heartbeats, so theirs
 * also carry the instant.
 */
export const jobIds = {
  runStarted: (run: Pick<RunStarted, 'runId'>) => `${run.runId}-started`,
  runFinished: (run: Pick<RunFinished, 'runId'>) => `${run.runId}-finished`,
  runHeartbeat: (heartbeat: Pick<RunHeartbeat, 'runId' | 'at'>) =>
    `${heartbeat.runId}-heartbeat-${Date.parse(heartbeat.at)}`,
  leaseRelease: (release: Pick<LeaseRelease, 'leaseId'>) => `${release.leaseId}-release`,
} as const;

/**
 * Exponential backoff with a maximum and jitter, which BullMQ's own backoff types lack: without a maximum a job would
 * wait for hours, without jitter jobs that failed together would be retried together.
 */
const CAPPED_BACKOFF = { type: 'capped' };

/**
 * For failures that can pass, such as a deadlock or a host that does not answer: from 0.5 s to 1 min, 8 min in all.
 * Rejections are never retried. Neither waiting for a workspace nor an outage of Postgres counts as an attempt.
 */
const TRANSIENT_BACKOFF: BackoffPolicy = { initialMs: 500, maxMs: 60_000 };
const TRANSIENT_RETRIES = { attempts: 15, backoff: CAPPED_BACKOFF } satisfies JobsOptions;

/**
 * Attempts to release a lease. What blocks a release, such as a host that is down, takes long to pass: with delays from
 * 1 s to 10 min, 12 attempts take at least 20 min.
 */
export const DEFAULT_RELEASE_ATTEMPTS = 12;

/** Attempts of each queue's jobs. A non-Node client may set fewer of those about runs; workers make at least these. */
export const JOB_OPTIONS: Readonly<Record<OperationQueueName, JobsOptions>> = {
  'run-started': TRANSIENT_RETRIES,
  'run-finished': TRANSIENT_RETRIES,
  'run-heartbeat': TRANSIENT_RETRIES,
  'lease-release': { attempts: DEFAULT_RELEASE_ATTEMPTS, backoff: CAPPED_BACKOFF },
};

/** The delay before the next attempt, in milliseconds: between half of the exponential delay and all of it. */
function retryDelay(failures: number, policy: BackoffPolicy, random: () => number): number {
  return Math.round(backoffDelay(failures, policy) * (1 - random() / 2));
}

/** The worker's `settings`, which resolve {@link CAPPED_BACKOFF}. */
export function retrySettings(queue: OperationQueueName, releaseBackoff: BackoffPolicy, random: () => number) {
  const policy = queue === 'lease-release' ? releaseBackoff : TRANSIENT_BACKOFF;
  return { backoffStrategy: (failures: number) => retryDelay(failures, policy, random) };
}

/** A failed job stays for 30 days for an operator to inspect and retry. */
const FAILED = { age: 30 * 24 * 60 * 60, count: 100_000 };

/** A completed job stays for an hour: long enough for a waiting producer to read its result, and for inspection. */
const COMPLETED = { age: 60 * 60, count: 50_000 };

/** A heartbeat's result is read immediately, by the lease's holder. */
const COMPLETED_HEARTBEATS = { age: 5 * 60, count: 5_000 };

/**
 * Expired jobs that each ending job removes. BullMQ's default of 1,000, times the 50 calls of a script batch, would block
 * Redis after an idle period.
 */
const REMOVED_PER_JOB = 20;

/**
 * How long a queue's ended jobs stay. It is an option of the worker instead of the job, so that it is the same whichever
 * client published the job.
 *
 * On Postgres only the age counts, which has an index: to enforce a count, BullMQ 6.7 reads all kept jobs at each end.
 */
export function jobRetention(
  queue: OperationQueueName,
  backend: BackendKind,
): { removeOnComplete: KeepJobs; removeOnFail: KeepJobs } {
  const completed = queue === 'run-heartbeat' ? COMPLETED_HEARTBEATS : COMPLETED;
  if (backend === 'postgres') return { removeOnComplete: { age: completed.age }, removeOnFail: { age: FAILED.age } };
  const limit = REMOVED_PER_JOB;
  return { removeOnComplete: { ...completed, limit }, removeOnFail: { ...FAILED, limit } };
}
