import { sql } from 'drizzle-orm';
import { StaleLeaseError, UnknownLeaseError } from '../contracts/index.ts';
import type { LeaseStatus } from '../contracts/index.ts';
import { queryRows } from '../db/connection.ts';
import type { Db } from '../db/connection.ts';

interface LeaseState {
  status: LeaseStatus;
  lapsed: boolean;
  current: boolean;
}

/**
 * Refuses whoever does not hold the lease any more (fenced). Its row is kept from ending until the transaction that
 * `db` may be is over; a single statement outside of one keeps it for that statement only.
 */
export async function assertCurrentLease(db: Db, leaseId: string, fencingToken: number): Promise<void> {
  const [lease] = await queryRows<LeaseState>(
    db,
    sql`
    select status, expires_at <= statement_timestamp() as lapsed, fencing_token = ${fencingToken}::bigint as current
    from lessor.environment_leases where id = ${leaseId} for share`,
  );
  if (lease === undefined) throw new UnknownLeaseError(leaseId);
  if (!lease.current) throw new StaleLeaseError(leaseId, `its fencing token is not ${fencingToken}`);
  if (lease.status !== 'active') throw new StaleLeaseError(leaseId, `it is ${lease.status}`);
  if (lease.lapsed) throw new StaleLeaseError(leaseId, 'it has lapsed and was not renewed');
}
