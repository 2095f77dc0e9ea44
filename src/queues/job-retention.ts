import type { KeepJobs } from 'bullmq';
import type { OperationQueueName } from './names.ts';
import type { StoreReference } from './store.ts';

/** A failed job stays for an operator to look at and retry. */
const FAILED = { age: 30 * 24 * 60 * 60, count: 100_000 };

/** A finished job stays long enough for whoever waits for it to read its result, and for people to look at. */
const COMPLETED = { age: 60 * 60, count: 50_000 };

/** A heartbeat's result is read at once, by its holder. */
const COMPLETED_HEARTBEATS = { age: 5 * 60, count: 5_000 };

/**
 * Of the jobs that are too old, so many go with each that ends. After a rest all of those before it are: BullMQ would
 * remove a thousand at once, and a batch of its scripts fifty times as many, while everybody waits for Redis.
 */
const REMOVED_AT_ONCE = 20;

/**
 * How long a queue's jobs stay when they are over. The worker says so rather than each job, which would carry it through
 * the queue, and whichever client published it.
 *
 * On Postgres BullMQ (6.7) finds those beyond a number by reading all that are kept, at the end of each job: there only
 * their age counts, for which it has an index.
 */
export function jobRetention(
  queue: OperationQueueName,
  store: StoreReference['store'],
): { removeOnComplete: KeepJobs; removeOnFail: KeepJobs } {
  const completed = queue === 'run-heartbeat' ? COMPLETED_HEARTBEATS : COMPLETED;
  if (store === 'postgres') return { removeOnComplete: { age: completed.age }, removeOnFail: { age: FAILED.age } };
  const limit = REMOVED_AT_ONCE;
  return { removeOnComplete: { ...completed, limit }, removeOnFail: { ...FAILED, limit } };
}
