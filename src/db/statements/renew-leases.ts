import { sql } from 'drizzle-orm';
import type { LeaseStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import type { Actor } from './activity.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A run that wants its leases renewed, by its own ttl or by the one each lease was given. */
export interface Renewal {
  companyId: string;
  runId: string;
  ttlSeconds?: number | undefined;
}

/**
 * Extends active leases to now + ttl, never shortening one and never reviving an ended one. A lease that had lapsed
 * and was not swept yet is saved, which is the only renewal that is told. Each run id may be given once.
 */
export async function renewLeases(tx: Transaction, renewals: readonly Renewal[], actor: Actor): Promise<void> {
  await tx.execute(sql`
    with held as (
      select lease.id, lease.expires_at <= statement_timestamp() as lapsed, coalesce("ttlSeconds", lease.ttl_seconds) as ttl_seconds
      from jsonb_to_recordset(${jsonRows(renewals)}) as wanted ("companyId" uuid, "runId" uuid, "ttlSeconds" int)
      join lessor.environment_leases lease on lease.heartbeat_run_id = "runId" and lease.company_id = "companyId"
      where lease.status = 'active'
      for update of lease
    ), lease as (
      update lessor.environment_leases lease set
        expires_at = greatest(lease.expires_at, statement_timestamp() + make_interval(secs => held.ttl_seconds)),
        last_used_at = statement_timestamp(),
        updated_at = statement_timestamp()
      from held
      where lease.id = held.id
      returning lease.*, held.lapsed
    )
    insert into lessor.activity_log
      (company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details)
    select lease.company_id, ${actor.type}, ${actor.id}, 'environment.lease_renewed', 'environment_lease', lease.id,
      run.agent_id, lease.heartbeat_run_id,
      jsonb_build_object('environmentId', lease.environment_id, 'expiresAt', lease.expires_at)
    from lease left join lessor.heartbeat_runs run on run.id = lease.heartbeat_run_id
    where lease.lapsed
    order by lease.fencing_token`);
}

/** A run's lease, as its holder needs to know it. */
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
