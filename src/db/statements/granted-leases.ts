import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { ActorInStatement } from './activity.ts';

/** What stands of an active `lease` and its `environment` in the context snapshot of its run. */
export const placementInContext = sql.raw(`jsonb_build_object('paperclipEnvironment', jsonb_build_object(
          'id', environment.id, 'name', environment.name, 'driver', environment.driver, 'leaseId', lease.id),
          'lessorFencingToken', lease.fencing_token)`);

/**
 * Writes the placements and fencing tokens of leases that become active into their runs' context snapshots: what a
 * statement does with its `lease` as `placed`, which {@link recordAcquired} goes by.
 */
export const writePlacementSnapshot = sql`
      update lessor.heartbeat_runs run set
        context_snapshot = run.context_snapshot || ${placementInContext},
        updated_at = now()
      from lease join lessor.environments environment on environment.id = lease.environment_id
      where run.id = lease.heartbeat_run_id
      returning run.id, run.agent_id`;

/** Where {@link recordAcquired} finds the leases, and the agents of their runs. */
const LEASES_AND_PLACEMENTS = {
  leases: sql.raw('lease left join placed on placed.id = lease.heartbeat_run_id'),
  agentId: sql.raw('placed.agent_id'),
};

/** Tells `lease_acquired` of leases that become active, in the statement that makes them so (always-audited). */
export const recordAcquired = (actor: ActorInStatement, { leases, agentId } = LEASES_AND_PLACEMENTS): SQL => sql`
      insert into lessor.activity_log
        (company_id, actor_type, actor_id, action, entity_type, entity_id, agent_id, run_id, details)
      select lease.company_id, ${actor.type}, ${actor.id}, 'environment.lease_acquired', 'environment_lease', lease.id,
        ${agentId}, lease.heartbeat_run_id, jsonb_strip_nulls(jsonb_build_object(
          'environmentId', lease.environment_id, 'executionWorkspaceId', lease.execution_workspace_id,
          'leasePolicy', lease.lease_policy, 'fencingToken', lease.fencing_token, 'expiresAt', lease.expires_at))
      from ${leases}
      order by lease.fencing_token`;
