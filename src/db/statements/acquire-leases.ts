import { sql } from 'drizzle-orm';
import type { GrantedLease, LeasePolicy, Metadata } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor } from './activity.ts';
import { writePlacementSnapshot, recordAcquired } from './granted-leases.ts';
import { grantedLeaseJson } from './lease-json.ts';
import { jsonRows } from './parameters.ts';

/** A lease to be made. */
export interface NewLease {
  companyId: string;
  environmentId: string;
  runId?: string | undefined;
  executionWorkspaceId?: string | undefined;
  issueId?: string | undefined;
  leasePolicy: LeasePolicy;
  provider?: string | undefined;
  providerLeaseId?: string | undefined;
  ttlSeconds: number;
  /** An exact end instead of now + ttl. */
  expiresAt?: string | undefined;
  metadata?: Metadata | undefined;
}

/**
 * Makes leases active, ends the waits for them, writes each placement and its fencing token into the run's context
 * snapshot and tells `lease_acquired`, all in one
 * statement (always-audited, always-bounded). Fencing tokens are drawn in the order given, under the companies' locks,
 * so those of one environment only grow (fenced). Instants are the statement's, not the transaction's: that one may
 * have begun long before it was given the lock. A second live lease of a run (one-lease) or of an execution
 * workspace (single-flight) is refused by its unique index.
 *
 * @returns the leases, in the order given
 */
export async function acquireLeases(
  tx: Transaction,
  leases: readonly NewLease[],
  actor: Actor,
): Promise<GrantedLease[]> {
  const rows = leases.map((lease, ordinal) => ({ ordinal, ...lease }));
  const granted = await queryRows<{ lease: GrantedLease }>(
    tx,
    sql`
    with lease as (
      insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, execution_workspace_id,
        issue_id, status, lease_policy, provider, provider_lease_id, ttl_seconds, acquired_at,
        last_used_at, expires_at, metadata)
      select "companyId", "environmentId", "runId", "executionWorkspaceId", "issueId", 'active', "leasePolicy",
        coalesce(wanted.provider, environment.driver), "providerLeaseId", "ttlSeconds",
        statement_timestamp(), statement_timestamp(),
        coalesce("expiresAt", statement_timestamp() + make_interval(secs => "ttlSeconds")), wanted.metadata
      from jsonb_to_recordset(${jsonRows(rows)}) as wanted (
        ordinal int, "companyId" uuid, "environmentId" uuid, "runId" uuid, "executionWorkspaceId" uuid,
        "issueId" uuid, "leasePolicy" text, provider text, "providerLeaseId" text, "ttlSeconds" int,
        "expiresAt" timestamptz, metadata jsonb)
      join lessor.environments environment on environment.id = "environmentId"
      order by ordinal
      returning *
    ), placed as (${writePlacementSnapshot}
    ), served as (
      delete from lessor.workspace_waits wait using lease where wait.run_id = lease.heartbeat_run_id
    ), told as (${recordAcquired(actor)}
    )
    select ${grantedLeaseJson} as lease
    from lease join lessor.environments environment on environment.id = lease.environment_id
    order by lease.fencing_token`,
  );
  return granted.map((row) => row.lease);
}
