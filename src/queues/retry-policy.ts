import type { JobsOptions } from 'bullmq';
import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';
import type { OperationQueueName } from './names.ts';

/**
 * Pauses between the attempts of a job double up to a longest one, with jitter, so that jobs that failed together are not
 * retried together. BullMQ's own pauses have no longest one.
 */
const CAPPED = { type: 'capped' };

/**
 * Retries of what failed for a reason that can pass, such as a lost deadlock or a host that does not answer: from half a
 * second to a minute, eight minutes in all. Refusals are never retried, and neither waiting for a workspace nor an
 * outage of Postgres spends an attempt.
 */
const TRANSIENT_PAUSES: BackoffPolicy = { initialMs: 500, maxMs: 60_000 };
const TRANSIENT_RETRIES = { attempts: 15, backoff: CAPPED } satisfies JobsOptions;

/**
 * How often the release of a lease is tried. What stands in the way, such as a host that is down, takes long to pass:
 * with pauses from one second to ten minutes, twelve attempts take twenty minutes or more.
 */
export const DEFAULT_RELEASE_ATTEMPTS = 12;

/** The pause before the next attempt, in milliseconds: between half and all of what it has grown to. */
function pauseBeforeRetry(failures: number, pauses: BackoffPolicy, random: () => number): number {
  return Math.round(backoffDelay(failures, pauses) * (1 - random() / 2));
}

/** How the worker of a queue tells BullMQ of the pauses. */
export function retrySettings(queue: OperationQueueName, releasePauses: BackoffPolicy, random: () => number) {
  const pauses = queue === 'lease-release' ? releasePauses : TRANSIENT_PAUSES;
  return { backoffStrategy: (failures: number) => pauseBeforeRetry(failures, pauses, random) };
}

/** How often the jobs of each queue are tried. A client in another language may ask for less: workers try as often. */
export const JOB_OPTIONS: Readonly<Record<OperationQueueName, JobsOptions>> = {
  'run-started': TRANSIENT_RETRIES,
  'run-finished': TRANSIENT_RETRIES,
  'run-heartbeat': TRANSIENT_RETRIES,
  'lease-release': { attempts: DEFAULT_RELEASE_ATTEMPTS, backoff: CAPPED },
};
