import type { Pool } from 'pg';
import { abortableSleep } from '../src/lib/abort.ts';
import { QUEUE_NAMES } from '../src/queues/job-options.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import { SHORT_TTL_SECONDS } from './plan.ts';

/** What remains to be done. */
export interface Remaining {
  /** Unfinished jobs, without the recurring one of the sweep. */
  jobs: number;
  /** Leases that have not ended. */
  leases: number;
}

const POLL_INTERVAL_MS = 250;

/**
 * Leases without an unfinished job end by their ttl and a sweep. Beyond the ttl this allows a minute, for a sweep whose
 * replica was killed: stalled-job recovery takes that long.
 */
const SWEEP_TIMEOUT_MS = SHORT_TTL_SECONDS * 1_000 + 60_000;

/** The queues that become empty: all but the sweep's. */
export const FINITE_QUEUES = QUEUE_NAMES.filter((name) => name !== 'lease-sweep');

/** Resolves once nothing remains to be done, once what remains is stuck, or once the signal is aborted. */
export async function untilQuiescent(
  queues: readonly LessorQueue[],
  pool: Pool,
  signal: AbortSignal,
  onProgress: (remaining: Remaining) => void,
): Promise<void> {
  let jobsDoneAt: number | undefined;
  while (!signal.aborted) {
    const remaining = { jobs: await countUnfinished(queues), leases: await countOpenLeases(pool) };
    onProgress(remaining);
    if (remaining.jobs === 0 && remaining.leases === 0) return;
    jobsDoneAt = remaining.jobs === 0 ? (jobsDoneAt ?? performance.now()) : undefined;
    if (jobsDoneAt !== undefined && performance.now() - jobsDoneAt > SWEEP_TIMEOUT_MS) return;
    await abortableSleep(POLL_INTERVAL_MS, signal);
  }
}

async function countUnfinished(queues: readonly LessorQueue[]): Promise<number> {
  const counts = await Promise.all(
    queues.map((queue) => queue.getJobCountByTypes('waiting', 'active', 'delayed', 'prioritized')),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Leases that have not ended. */
export async function countOpenLeases(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ open: number }>(`
    select count(*)::int as open from lessor.environment_leases
    where status in ('pending', 'active', 'retained', 'pending_cleanup')`);
  return rows[0]!.open;
}
