import { sql } from 'drizzle-orm';
import type { LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor } from './activity.ts';
import { hasExternalEffectsSql } from './external-effects.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A renewal of a run's leases, by its own ttl or by the one each lease was granted with. */
export interface Renewal {
  companyId: string;
  runId: string;
  ttlSeconds?: number | undefined;
}

/**
 * Whether an expired lease may be active again: its run is live, it was not retained before, it has no external effects
 * that were cleaned up, its environment is active, and nobody has been granted what it held since, which a higher fencing
 * token would show (fenced, one-lease, single-flight).
 */
const isRevivable = sql`lease.status = 'expired' and not (${hasExternalEffectsSql('lease.provider')})
  and exists (select from lessor.heartbeat_runs run
    where run.id = lease.heartbeat_run_id and run.status in ('queued', 'running'))
  and not exists (select from lessor.activity_log event
    where event.run_id = lease.heartbeat_run_id and event.entity_id = lease.id
      and event.action = 'environment.lease_retained')
  and exists (select from lessor.environments environment
    where environment.id = lease.environment_id and environment.status = 'active')
  and not exists (select from lessor.environment_leases later
    where later.heartbeat_run_id = lease.heartbeat_run_id and later.environment_id = lease.environment_id
      and later.fencing_token > lease.fencing_token)
  and not (lease.lease_policy = 'ephemeral' and exists (select from lessor.environment_leases later
    where later.execution_workspace_id = lease.execution_workspace_id and later.environment_id = lease.environment_id
      and later.fencing_token > lease.fencing_token and later.lease_policy = 'ephemeral'))`;

/**
 * Extends active leases to now + ttl, never shortening one, and revives expired ones, whether or not a sweep has ended them.
 * Only a renewal that saves an expired lease is recorded (always-audited). No other ended lease is revived. Each run id
 * may be given once.
 */
export async function renewLeases(tx: Transaction, renewals: readonly Renewal[], actor: Actor): Promise<void> {
  await tx.execute(sql`
    with held as (
      select lease.id, lease.status as from_status, coalesce("ttlSeconds", lease.ttl_seconds) as ttl_seconds,
        lease.expires_at <= statement_timestamp() as is_expired
      from jsonb_to_recordset(${jsonRows(renewals)}) as renewal ("companyId" uuid, "runId" uuid, "ttlSeconds" int)
      join lessor.environment_leases lease on lease.heartbeat_run_id = "runId" and lease.company_id = "companyId"
      where lease.status = 'active' or (${isRevivable})
      for update of lease
    ), lease as (
      update lessor.environment_leases lease set
        status = 'active',
        expires_at = greatest(lease.expires_at, statement_timestamp() + make_interval(secs => held.ttl_seconds)),
        last_used_at = statement_timestamp(),
        released_at = null,
        failure_reason = case held.from_status when 'active' then lease.failure_reason end,
        cleanup_status = null,
        updated_at = statement_timestamp()
      from held
      where lease.id = held.id
      returning lease.*, held.from_status, held.is_expired
    )
    insert into lessor.activity_log
      (company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details)
    select lease.company_id, ${actor.type}, ${actor.id}, 'environment.lease_renewed', 'environment_lease', lease.id,
      run.agent_id, lease.heartbeat_run_id, jsonb_build_object('environmentId', lease.environment_id,
        'fromStatus', lease.from_status, 'expiresAt', lease.expires_at, 'fencingToken', lease.fencing_token)
    from lease left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
    where lease.is_expired
    order by lease.fencing_token`);
}

/** A lease as the heartbeats of its run report it. */
export interface RunLease {
  runId: string;
  id: string;
  status: LeaseStatus;
  expiresAt: string;
}

/** Reads all leases of runs, ended ones included, oldest first. */
export async function readRunLeases(tx: Transaction, runIds: readonly string[]): Promise<RunLease[]> {
  const leases = await queryRows<{ lease: RunLease }>(
    tx,
    sql`
    select jsonb_build_object(
      'runId', heartbeat_run_id, 'id', id, 'status', status, 'expiresAt', expires_at) as lease
    from lessor.environment_leases
    where heartbeat_run_id = any(${uuidArray(runIds)})
    order by fencing_token`,
  );
  return leases.map((row) => row.lease);
}
