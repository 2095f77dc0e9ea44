import { sql } from 'drizzle-orm';

/**
 * A row of `environment_leases lease` joined to `environments environment`, in the shape of the contract's
 * `GrantedLease`: JSON made by Postgres, so that instants are ISO 8601 whatever the session's settings.
 */
export const grantedLeaseJson = sql.raw(`jsonb_build_object(
  'id', lease.id,
  'companyId', lease.company_id,
  'runId', lease.heartbeat_run_id,
  'status', lease.status,
  'leasePolicy', lease.lease_policy,
  'executionWorkspaceId', lease.execution_workspace_id,
  'fencingToken', lease.fencing_token,
  'ttlSeconds', lease.ttl_seconds,
  'acquiredAt', lease.acquired_at,
  'expiresAt', lease.expires_at,
  'failureReason', lease.failure_reason,
  'environment', jsonb_build_object(
    'id', environment.id, 'name', environment.name, 'driver', environment.driver, 'leaseId', lease.id),
  'config', environment.config,
  'providerLeaseId', lease.provider_lease_id)`);
