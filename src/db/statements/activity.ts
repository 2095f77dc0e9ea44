import { sql } from 'drizzle-orm';
import type { Placeholder } from 'drizzle-orm';
import type { ActivityAction, ActorType, EntityType, Metadata, Rejection } from '../../contracts/index.ts';
import type { Transaction } from '../connection.ts';
import { jsonRows } from './parameters.ts';

/** Who caused a transition. */
export interface Actor {
  type: ActorType;
  id: string;
}

/** An actor in a statement: values, or placeholders for them. */
export type ActorInStatement = Record<keyof Actor, string | Placeholder>;

/** The {@link Actor} of a precompiled statement. */
export const ACTOR_PLACEHOLDERS = { type: sql.placeholder('actorType'), id: sql.placeholder('actorId') };

/** An event that is not written by the statement of its transition. */
export interface ActivityEvent {
  companyId: string;
  action: ActivityAction;
  entityType: EntityType;
  entityId: string;
  details: Metadata;
}

/** Records a transition, in its transaction (always-audited). */
export async function recordActivity(tx: Transaction, event: ActivityEvent, actor: Actor): Promise<void> {
  await tx.execute(sql`
    insert into lessor.activity_log (company_id, actor_type, actor_id, action, entity_type, entity_id, details)
    values (${event.companyId}, ${actor.type}, ${actor.id}, ${event.action}, ${event.entityType}, ${event.entityId},
      ${JSON.stringify(event.details)}::text::jsonb)`);
}

/** A run whose start was rejected. */
export interface RejectedRun {
  companyId: string;
  runId: string;
  agentId?: string | undefined;
  environmentId?: string | undefined;
  rejection: Rejection;
}

/**
 * Records that runs got no lease, where the company is registered: once for each run, however often its start is
 * delivered.
 */
export async function recordRejections(tx: Transaction, runs: readonly RejectedRun[], actor: Actor): Promise<void> {
  const rows = runs.map(({ rejection, ...run }) => ({ ...run, ...rejection }));
  await tx.execute(sql`
    insert into lessor.activity_log
      (company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details)
    select company.id, ${actor.type}, ${actor.id}, 'environment.lease_denied', 'heartbeat_run', "runId", "agentId",
      "runId", jsonb_strip_nulls(jsonb_build_object('code', code, 'reason', reason, 'environmentId', "environmentId"))
    from jsonb_to_recordset(${jsonRows(rows)}) as rejected (
      "companyId" uuid, "runId" uuid, "agentId" uuid, "environmentId" uuid, code text, reason text)
    join lessor.companies company on company.id = "companyId"
    on conflict (company_id, run_id) where action = 'environment.lease_denied' do nothing`);
}
