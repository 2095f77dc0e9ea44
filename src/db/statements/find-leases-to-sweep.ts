import { sql } from 'drizzle-orm';
import { queryRows } from '../connection.ts';
import type { Db } from '../connection.ts';

/** A live lease of an ended run, with its position in a pass over them. */
export interface OrphanedLease {
  leaseId: string;
  runId: string;
  environmentId: string;
}

/**
 * Live leases of ended runs, through the index `environment_leases_one_lease`. `limit 1` forces a lookup of the run per
 * lease. Postgres would start from the runs otherwise, most of which have ended, and expect to find a page of such leases
 * early, where as a rule there is none at all.
 */
export async function findOrphanedLeases(db: Db, limit: number, after?: OrphanedLease): Promise<OrphanedLease[]> {
  return queryRows<OrphanedLease>(
    db,
    sql`
    select lease.id as "leaseId", lease.heartbeat_run_id as "runId", lease.environment_id as "environmentId"
    from lessor.environment_leases lease
    cross join lateral (
      select from lessor.heartbeat_runs run
      where run.id = lease.heartbeat_run_id and run.status in ('succeeded', 'failed', 'cancelled', 'timed_out')
      limit 1
    ) ended
    where lease.status in ('pending', 'active')
      and ${after === undefined ? sql`true` : sql`(lease.heartbeat_run_id, lease.environment_id) > (${after.runId}::uuid, ${after.environmentId}::uuid)`}
    order by lease.heartbeat_run_id, lease.environment_id limit ${limit}`,
  );
}

/** A lease past its `expires_at`, with its position in a pass over them. */
export interface ExpiredLease {
  leaseId: string;
  expiresAt: string;
}

/** Leases past their `expires_at`, oldest first, through the index `environment_leases_expiring`. */
export async function findExpiredLeases(db: Db, limit: number, after?: ExpiredLease): Promise<ExpiredLease[]> {
  return queryRows<ExpiredLease>(
    db,
    sql`
    select id as "leaseId", expires_at::text as "expiresAt"
    from lessor.environment_leases
    where status in ('pending', 'active', 'retained') and expires_at <= now()
      and ${after === undefined ? sql`true` : sql`(expires_at, id) > (${after.expiresAt}::timestamptz, ${after.leaseId}::uuid)`}
    order by expires_at, id limit ${limit}`,
  );
}

/** A lease whose acquisition was never completed, with its position in a pass over them. */
export interface AbandonedLease {
  leaseId: string;
  lastUsedAt: string;
}

/** Pending leases not touched for `untouchedSeconds`, oldest first, through `environment_leases_pending`. */
export async function findAbandonedLeases(
  db: Db,
  untouchedSeconds: number,
  limit: number,
  after?: AbandonedLease,
): Promise<AbandonedLease[]> {
  return queryRows<AbandonedLease>(
    db,
    sql`
    select id as "leaseId", last_used_at::text as "lastUsedAt"
    from lessor.environment_leases
    where status = 'pending' and last_used_at <= now() - make_interval(secs => ${untouchedSeconds})
      and ${after === undefined ? sql`true` : sql`(last_used_at, id) > (${after.lastUsedAt}::timestamptz, ${after.leaseId}::uuid)`}
    order by last_used_at, id limit ${limit}`,
  );
}

/** A lease whose cleanup is pending, with its position in a pass over them. */
export interface UncleanedLease {
  leaseId: string;
  companyId: string;
  updatedAt: string;
}

/** Leases whose cleanup is pending for `waitedSeconds`, oldest first, through `environment_leases_pending_cleanup`. */
export async function findUncleanedLeases(
  db: Db,
  waitedSeconds: number,
  limit: number,
  after?: UncleanedLease,
): Promise<UncleanedLease[]> {
  return queryRows<UncleanedLease>(
    db,
    sql`
    select id as "leaseId", company_id as "companyId", updated_at::text as "updatedAt"
    from lessor.environment_leases
    where status = 'pending_cleanup' and updated_at <= now() - make_interval(secs => ${waitedSeconds})
      and ${after === undefined ? sql`true` : sql`(updated_at, id) > (${after.updatedAt}::timestamptz, ${after.leaseId}::uuid)`}
    order by updated_at, id limit ${limit}`,
  );
}
