import type { LeaseRelease, RunFinished, RunHeartbeat, RunStarted } from '../contracts/index.ts';

/** Every queue of Lessor. */
export const QUEUE_NAMES = ['run-started', 'run-finished', 'run-heartbeat', 'lease-release', 'lease-sweep'] as const;
export type QueueName = (typeof QUEUE_NAMES)[number];

/** Queues whose jobs are published, each asking for an operation. Those of `lease-sweep` come from a scheduler. */
export type OperationQueueName = Exclude<QueueName, 'lease-sweep'>;

/** The BullMQ prefix of all queues. On the Postgres backend the schema `bullmq` takes its place. */
export const DEFAULT_PREFIX = 'lessor';

/**
 * Job ids are derived from the run or lease, so that publishing twice is publishing once. A run sends many heartbeats,
 * so theirs also carry the instant.
 */
export const jobIds = {
  runStarted: (run: Pick<RunStarted, 'runId'>) => `${run.runId}-started`,
  runFinished: (run: Pick<RunFinished, 'runId'>) => `${run.runId}-finished`,
  runHeartbeat: (heartbeat: Pick<RunHeartbeat, 'runId' | 'at'>) =>
    `${heartbeat.runId}-heartbeat-${Date.parse(heartbeat.at)}`,
  leaseRelease: (release: Pick<LeaseRelease, 'leaseId'>) => `${release.leaseId}-release`,
} as const;
