import { sql } from 'drizzle-orm';
import { queryRows } from '../connection.ts';
import type { Db, Transaction } from '../connection.ts';
import { uuidArray } from './parameters.ts';

/** A run from before the retention, and its place in a round over those. */
export interface OldRun {
  runId: string;
  createdAt: string;
  /** Whether it is past its retention with nothing attached, as far as can be seen without its lock. */
  removable: boolean;
}

/**
 * Past the retention since its end. A producer's clock wrote `finished_at`, so the run's last change by the database's
 * clock must be as old.
 */
const pastRetention = (retentionSeconds: number) => sql`
  run.status in ('succeeded', 'failed', 'cancelled', 'timed_out')
  and greatest(run.finished_at, run.updated_at) <= now() - make_interval(secs => ${retentionSeconds})`;

/**
 * Runs from before the retention, oldest first, through the index `heartbeat_runs_retention`. Those that stay are given
 * too: a page costs the same however many of them there are. The limit of one keeps Postgres from reading all leases
 * at once to look these runs up in.
 */
export async function findOldRuns(db: Db, retentionSeconds: number, limit: number, after?: OldRun): Promise<OldRun[]> {
  return queryRows<OldRun>(
    db,
    sql`
    select run.id as "runId", run.created_at::text as "createdAt",
      ${pastRetention(retentionSeconds)} and lease.id is null as removable
    from lessor.heartbeat_runs run
    left join lateral (
      select id from lessor.environment_leases lease where lease.heartbeat_run_id = run.id limit 1
    ) lease on true
    where run.created_at <= now() - make_interval(secs => ${retentionSeconds})
      and ${after === undefined ? sql`true` : sql`(run.created_at, run.id) > (${after.createdAt}::timestamptz, ${after.runId}::uuid)`}
    order by run.created_at, run.id limit ${limit}`,
  );
}

/**
 * Removes those of the runs that are past their retention and have no lease, with what they waited for. What was told
 * of them stays.
 *
 * Two statements, because a lease can be made meanwhile: the first one locks the runs, skipping those that someone is
 * at work on, and from then on none can be referred to anew; the second one sees every lease made until then.
 *
 * @returns the ids of the runs that were removed
 */
export async function removeOldRuns(
  tx: Transaction,
  runIds: readonly string[],
  retentionSeconds: number,
): Promise<string[]> {
  const locked = await queryRows<{ id: string }>(
    tx,
    sql`
    select run.id from lessor.heartbeat_runs run
    where run.id = any(${uuidArray(runIds)}) and ${pastRetention(retentionSeconds)}
    for update skip locked`,
  );
  const removed = await queryRows<{ id: string }>(
    tx,
    sql`
    delete from lessor.heartbeat_runs run
    where run.id = any(${uuidArray(locked.map((run) => run.id))})
      and not exists (select from lessor.environment_leases lease where lease.heartbeat_run_id = run.id)
    returning run.id`,
  );
  return removed.map((run) => run.id);
}
