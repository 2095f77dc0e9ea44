import { sql } from 'drizzle-orm';
import { queryRows } from '../connection.ts';
import type { Db } from '../connection.ts';

/** A place in a pass over leases: the next page starts behind it. */
export interface SweepCursor {
  leaseId: string;
  expiresAt: string;
}

/** Leases past their end, oldest first, through the index `environment_leases_lapsing`. */
export async function findLapsedLeases(db: Db, limit: number, after?: SweepCursor): Promise<SweepCursor[]> {
  return queryRows<SweepCursor>(
    db,
    sql`
    select id as "leaseId", expires_at::text as "expiresAt"
    from lessor.environment_leases
    where status in ('pending', 'active', 'retained') and expires_at <= now()
      and ${after === undefined ? sql`true` : sql`(expires_at, id) > (${after.expiresAt}::timestamptz, ${after.leaseId}::uuid)`}
    order by expires_at, id limit ${limit}`,
  );
}

/** Live leases of ended runs, through the index `environment_leases_one_lease`. */
export async function findOrphanedLeases(db: Db, limit: number, after?: SweepCursor): Promise<SweepCursor[]> {
  return queryRows<SweepCursor>(
    db,
    sql`
    select lease.id as "leaseId", lease.expires_at::text as "expiresAt"
    from lessor.environment_leases lease
    join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
    where lease.status in ('pending', 'active') and run.status in ('succeeded', 'failed', 'cancelled', 'timed_out')
      and ${after === undefined ? sql`true` : sql`lease.id > ${after.leaseId}::uuid`}
    order by lease.id limit ${limit}`,
  );
}
