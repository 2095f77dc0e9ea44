import { sql } from 'drizzle-orm';
import type { LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { uuidArray } from './parameters.ts';

/** What decides about cleaning up after a lease. */
export interface LeaseToCleanUp {
  id: string;
  companyId: string;
  status: LeaseStatus;
  /** The lease's own, or where it names none the driver of its environment. */
  provider: string;
  failureReason: string | null;
}

/** Reads leases, by id. The companies' locks must be held. */
export async function readLeasesToCleanUp(
  tx: Transaction,
  leaseIds: readonly string[],
): Promise<Map<string, LeaseToCleanUp>> {
  const leases = await queryRows<LeaseToCleanUp>(
    tx,
    sql`
    select lease.id, lease.company_id as "companyId", lease.status,
      coalesce(lease.provider, environment.driver) as provider, lease.failure_reason as "failureReason"
    from lessor.environment_leases lease
    join lessor.environments environment on environment.id = lease.environment_id
    where lease.id = any(${uuidArray(leaseIds)})`,
  );
  return new Map(leases.map((lease) => [lease.id, lease]));
}
