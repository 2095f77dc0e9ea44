import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { QUEUE_NAMES } from '../src/queues/names.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import { LAPSING_TTL_SECONDS } from './plan.ts';

/** How things stand on the way to rest. */
export interface Standing {
  /** Jobs that are not finished; the sweep's, which always comes again, is none of them. */
  jobs: number;
  /** Leases that have not ended. */
  leases: number;
}

const LOOK_AGAIN_MS = 250;

/**
 * What is left without any job about it has to end by its ttl and a sweep. This is that, with room for a sweep whose
 * replica was killed, which is taken over only after a while.
 */
const SWEEP_PATIENCE_MS = LAPSING_TTL_SECONDS * 1_000 + 60_000;

/** Queues whose jobs come to an end. */
export const ENDING_QUEUES = QUEUE_NAMES.filter((name) => name !== 'lease-sweep');

/** Resolves once nothing is left to be done, or nothing is being done about what is left. */
export async function untilQuiet(
  queues: readonly LessorQueue[],
  pool: Pool,
  signal: AbortSignal,
  onStanding: (standing: Standing) => void,
): Promise<void> {
  let jobsDoneAt: number | undefined;
  while (!signal.aborted) {
    const standing = { jobs: await countUnfinished(queues), leases: await countOpenLeases(pool) };
    onStanding(standing);
    if (standing.jobs === 0 && standing.leases === 0) return;
    jobsDoneAt = standing.jobs === 0 ? (jobsDoneAt ?? performance.now()) : undefined;
    if (jobsDoneAt !== undefined && performance.now() - jobsDoneAt > SWEEP_PATIENCE_MS) return;
    await sleep(LOOK_AGAIN_MS);
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
