import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { GrantedLease, LeasePolicy, Metadata } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor, ActorInStatement } from './activity.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/**
 * A row of `environment_leases lease` joined to `environments environment`, in the shape of the contract's
 * `GrantedLease`. Postgres writes the JSON, so that instants are ISO 8601 whatever the session's settings.
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

/** What the context snapshot of a run says of its active `lease` and the `environment`. */
export const placementSnapshot = sql.raw(`jsonb_build_object('paperclipEnvironment', jsonb_build_object(
          'id', environment.id, 'name', environment.name, 'driver', environment.driver, 'leaseId', lease.id),
          'lessorFencingToken', lease.fencing_token)`);

/**
 * Writes the placements and fencing tokens of each `lease` that becomes active into its run's context snapshot. The CTE
 * `snapshot` of a statement, from which {@link recordAcquired} takes the agents.
 */
export const writePlacementSnapshot = sql`
      update lessor.heartbeat_runs run set
        context_snapshot = run.context_snapshot || ${placementSnapshot},
        updated_at = now()
      from lease join lessor.environments environment on environment.id = lease.environment_id
      where run.id = lease.heartbeat_run_id
      returning run.id, run.agent_id`;

/** Where {@link recordAcquired} finds the leases and the agents of their runs. */
const LEASES_AND_SNAPSHOTS = {
  leases: sql.raw('lease left join snapshot on snapshot.id = lease.heartbeat_run_id'),
  agentId: sql.raw('snapshot.agent_id'),
};

/** Records `lease_acquired` in the statement that makes leases active (always-audited). */
export const recordAcquired = (actor: ActorInStatement, { leases, agentId } = LEASES_AND_SNAPSHOTS): SQL => sql`
      insert into lessor.activity_log
        (company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details)
      select lease.company_id, ${actor.type}, ${actor.id}, 'environment.lease_acquired', 'environment_lease', lease.id,
        ${agentId}, lease.heartbeat_run_id, jsonb_strip_nulls(jsonb_build_object(
          'environmentId', lease.environment_id, 'executionWorkspaceId', lease.execution_workspace_id,
          'leasePolicy', lease.lease_policy, 'fencingToken', lease.fencing_token, 'expiresAt', lease.expires_at))
      from ${leases}
      order by lease.fencing_token`;

/** A lease to be inserted. */
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
 * Inserts active leases, deletes the waits of their runs, writes the placement snapshots and records `lease_acquired`, in
 * one statement (always-audited, always-bounded). Fencing tokens are drawn in the order given, under the companies'
 * locks, so that those of one environment only grow (fenced). Instants are the statement's: the transaction may have
 * waited long for the locks. Unique indexes reject a second live lease of a run on an environment (one-lease), and of an
 * execution workspace (single-flight).
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
        coalesce(requested.provider, environment.driver), "providerLeaseId", "ttlSeconds",
        statement_timestamp(), statement_timestamp(),
        coalesce("expiresAt", statement_timestamp() + make_interval(secs => "ttlSeconds")), requested.metadata
      from jsonb_to_recordset(${jsonRows(rows)}) as requested (
        ordinal int, "companyId" uuid, "environmentId" uuid, "runId" uuid, "executionWorkspaceId" uuid,
        "issueId" uuid, "leasePolicy" text, provider text, "providerLeaseId" text, "ttlSeconds" int,
        "expiresAt" timestamptz, metadata jsonb)
      join lessor.environments environment on environment.id = "environmentId"
      order by ordinal
      returning *
    ), snapshot as (${writePlacementSnapshot}
    ), deleted_wait as (
      delete from lessor.workspace_waits wait using lease where wait.run_id = lease.heartbeat_run_id
    ), event as (${recordAcquired(actor)}
    )
    select ${grantedLeaseJson} as lease
    from lease join lessor.environments environment on environment.id = lease.environment_id
    order by lease.fencing_token`,
  );
  return granted.map((row) => row.lease);
}

/** A lease that its driver has acquired. */
export interface AcquiredLease {
  leaseId: string;
  /** The driver's own id of what it acquired. */
  providerLeaseId: string;
}

/**
 * Makes pending leases active, the second step of an acquisition by a driver: writes the placement snapshots and records
 * `lease_acquired`, in one statement (always-audited). The ttl counts from now (always-bounded). The fencing token is
 * drawn now, under the company's lock, so that a lease that becomes active later has a higher one, however long its
 * driver took (fenced). A lease that is no longer pending is unchanged.
 */
export async function activateLeases(tx: Transaction, acquired: readonly AcquiredLease[], actor: Actor): Promise<void> {
  await tx.execute(sql`
    with lease as (
      update lessor.environment_leases lease set
        status = 'active',
        provider_lease_id = "providerLeaseId",
        acquiring_until = null,
        failure_reason = null,
        fencing_token = nextval('lessor.fencing_tokens'),
        acquired_at = statement_timestamp(),
        last_used_at = statement_timestamp(),
        expires_at = statement_timestamp() + make_interval(secs => lease.ttl_seconds),
        updated_at = statement_timestamp()
      from jsonb_to_recordset(${jsonRows(acquired)}) as acquired ("leaseId" uuid, "providerLeaseId" text)
      where lease.id = "leaseId" and lease.status = 'pending'
      returning lease.*
    ), snapshot as (${writePlacementSnapshot}
    )${recordAcquired(actor)}`);
}

/**
 * Records that drivers have finished acquiring leases that ended meanwhile, so that their cleanup can begin. A lease that
 * was cleaned up already, because its acquirer was presumed dead, becomes `pending_cleanup` again: the acquirer may have
 * created something since (no-leak). It ends as it had, or was to. A lease that was adopted is unchanged: what was
 * acquired belongs to another lease by now.
 */
export async function recordSupersededAcquisitions(tx: Transaction, leaseIds: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update lessor.environment_leases set
      acquiring_until = statement_timestamp(),
      ending_status = case when ending_status is null and status <> 'pending_cleanup' then status else ending_status end,
      ending_reason = case when ending_status is null and status <> 'pending_cleanup' then failure_reason
        else ending_reason end,
      status = 'pending_cleanup',
      cleanup_status = 'pending',
      released_at = null,
      updated_at = statement_timestamp()
    where id = any(${uuidArray(leaseIds)}) and status in ('pending_cleanup', 'released', 'failed', 'expired')
      and not (status = 'released' and ending_status is null and provider_lease_id is not null)`);
}

/** Reads leases, by id. The companies' locks must be held. */
export async function readGrantedLeases(
  tx: Transaction,
  leaseIds: readonly string[],
): Promise<Map<string, GrantedLease>> {
  const leases = await queryRows<{ lease: GrantedLease }>(
    tx,
    sql`
    select ${grantedLeaseJson} as lease
    from lessor.environment_leases lease
    join lessor.environments environment on environment.id = lease.environment_id
    where lease.id = any(${uuidArray(leaseIds)})`,
  );
  return new Map(leases.map(({ lease }) => [lease.id, lease]));
}
