import { sql } from 'drizzle-orm';
import type { EnvironmentDriver, EnvironmentStatus, GrantedLease, LeasePolicy } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { grantedLeaseJson } from './acquire-leases.ts';
import { hasExternalEffectsSql } from './external-effects.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** Where a run is to execute: without an environment, on its company's `Local`. */
export interface PlacementRequest {
  companyId: string;
  runId?: string | undefined;
  environmentId?: string | undefined;
  executionWorkspaceId?: string | undefined;
  leasePolicy?: LeasePolicy | undefined;
}

/** What the database has about a requested placement. */
export interface FoundPlacement {
  environment: { id: string; companyId: string; driver: EnvironmentDriver; status: EnvironmentStatus } | null;
  /**
   * The execution workspace that the run gets: the one it names, or the environment's only checkout under
   * `workspaceMode: in_place`, whose id is that of the environment.
   */
  executionWorkspaceId: string | null;
  /** The newest lease that the run has or had on the environment. */
  lease: GrantedLease | null;
  /** The holder of the execution workspace there, by an ephemeral lease that is live or whose cleanup is pending. */
  holder: WorkspaceHolder | null;
  /** The lease of an earlier run of the scope to be adopted, under a policy of reuse. Never on `Local`. */
  retained: RetainedLease | null;
  /** The run's own wait for the execution workspace. */
  wait: { since: string; forMs: number } | null;
  /** The run that gets the execution workspace before this one, because it has waited longer. */
  ahead: WorkspaceWaiter | null;
}

/** A run that waits for an execution workspace. */
export interface WorkspaceWaiter {
  runId: string;
  since: string;
}

/** A lease that is retained after its run, with the driver's id of what it acquired. */
export interface RetainedLease {
  leaseId: string;
  providerLeaseId: string;
}

/** The lease on an execution workspace. */
export interface WorkspaceHolder {
  leaseId: string;
  runId: string | null;
  acquiredAt: string;
  /** Whether it has ended, and its driver has yet to clean up after it. */
  cleaning: boolean;
  /** Whether it is past its `expires_at`, though no sweep has ended it yet. */
  expired: boolean;
  /** Whether its run has ended, though the lease has not. */
  runEnded: boolean;
}

/**
 * A waiting run that has not asked for its workspace for so long is passed over: its job is gone, or its queue is stuck.
 * Waiting runs ask every half second, so 30 seconds keep a backlog from costing a run its position.
 */
const WAITER_TIMEOUT_SECONDS = 30;

/**
 * Reads what decides about placements, in the order given. The companies' locks must be held (single-flight, one-lease).
 */
export async function readPlacements(
  tx: Transaction,
  requests: readonly PlacementRequest[],
): Promise<FoundPlacement[]> {
  const rows = requests.map((placement, ordinal) => ({ ordinal, ...placement }));
  return queryRows<FoundPlacement>(
    tx,
    sql`
    select
      case when environment.id is not null then jsonb_build_object(
        'id', environment.id, 'companyId', environment.company_id,
        'driver', environment.driver, 'status', environment.status) end as environment,
      workspace.id as "executionWorkspaceId",
      newest.lease,
      coalesce(holding.holder, cleaning.holder) as holder,
      kept.retained,
      case when own.run_id is not null then jsonb_build_object(
        'since', own.waiting_since,
        'forMs', extract(epoch from statement_timestamp() - own.waiting_since) * 1000) end as wait,
      longest.ahead
    from jsonb_to_recordset(${jsonRows(rows)}) as request (
      ordinal int, "companyId" uuid, "runId" uuid, "environmentId" uuid, "executionWorkspaceId" uuid, "leasePolicy" text)
    left join lateral (
      select * from lessor.environments where id = coalesce(
        "environmentId",
        (select id from lessor.environments own where own.company_id = "companyId" and own.driver = 'local'))
      limit 1
    ) environment on true
    cross join lateral (
      select case when ${hasExternalEffectsSql('environment.driver')} and environment.config ->> 'workspaceMode' = 'in_place'
        then environment.id else "executionWorkspaceId" end as id
    ) workspace
    left join lateral (
      select ${grantedLeaseJson} as lease
      from lessor.environment_leases lease
      where lease.heartbeat_run_id = "runId" and lease.environment_id = environment.id
      order by lease.fencing_token desc limit 1
    ) newest on true
    left join lateral (
      select jsonb_build_object(
        'leaseId', held.id, 'runId', held.heartbeat_run_id, 'acquiredAt', held.acquired_at, 'cleaning', false,
        'expired', held.expires_at <= statement_timestamp(),
        'runEnded', coalesce(run.status not in ('queued', 'running'), false)) as holder
      from lessor.environment_leases held
      left join lessor.heartbeat_runs run on run.id = held.heartbeat_run_id
      where held.environment_id = environment.id and held.execution_workspace_id = workspace.id
        and held.status in ('pending', 'active') and held.lease_policy = 'ephemeral'
    ) holding on true
    left join lateral (
      select jsonb_build_object(
        'leaseId', held.id, 'runId', held.heartbeat_run_id, 'acquiredAt', held.acquired_at, 'cleaning', true,
        'expired', false, 'runEnded', true) as holder
      from lessor.environment_leases held
      where ${hasExternalEffectsSql('environment.driver')} and held.environment_id = environment.id
        and held.execution_workspace_id = workspace.id
        and held.status = 'pending_cleanup' and held.lease_policy = 'ephemeral'
      order by held.fencing_token desc limit 1
    ) cleaning on true
    left join lateral (
      select jsonb_build_object('leaseId', earlier.id, 'providerLeaseId', earlier.provider_lease_id) as retained
      from lessor.environment_leases earlier
      where ${hasExternalEffectsSql('environment.driver')} and earlier.environment_id = environment.id
        and earlier.status = 'retained' and earlier.lease_policy = "leasePolicy"
        and ("leasePolicy" = 'reuse_by_environment' or ("leasePolicy" = 'reuse_by_execution_workspace'
          and earlier.execution_workspace_id = workspace.id))
        and earlier.provider_lease_id is not null and earlier.expires_at > statement_timestamp()
      order by earlier.fencing_token desc limit 1
    ) kept on true
    left join lessor.workspace_waits own
      on own.run_id = "runId" and own.company_id = "companyId" and own.environment_id = environment.id
      and own.execution_workspace_id = workspace.id
    left join lateral (
      select jsonb_build_object('runId', waiter.run_id, 'since', waiter.waiting_since) as ahead
      from lessor.workspace_waits waiter
      join lessor.heartbeat_runs run on run.id = waiter.run_id
      where waiter.environment_id = environment.id and waiter.execution_workspace_id = workspace.id
        and waiter.run_id is distinct from "runId" and run.status in ('queued', 'running')
        and waiter.last_asked_at > statement_timestamp() - make_interval(secs => ${WAITER_TIMEOUT_SECONDS})
        and (own.run_id is null or (waiter.waiting_since, waiter.run_id) < (own.waiting_since, own.run_id))
      order by waiter.waiting_since, waiter.run_id limit 1
    ) longest on true
    order by ordinal`,
  );
}

/** A run that did not get the execution workspace that it asked for. */
export interface UnservedRun {
  companyId: string;
  runId: string;
  environmentId: string;
  executionWorkspaceId: string;
}

/**
 * Records that runs wait, in the order given, so that the longest waiter is next (single-flight). A run that waits already
 * keeps its position, unless it now asks for another workspace. Each run id may be given once.
 *
 * @returns since when each run waits
 */
export async function recordWaits(tx: Transaction, runs: readonly UnservedRun[]): Promise<Map<string, string>> {
  if (runs.length === 0) return new Map();
  const rows = runs.map((run, ordinal) => ({ ordinal, ...run }));
  const waits = await queryRows<{ wait: { runId: string; since: string } }>(
    tx,
    sql`
    insert into lessor.workspace_waits as wait
      (run_id, company_id, environment_id, execution_workspace_id, waiting_since, last_asked_at)
    select "runId", "companyId", "environmentId", "executionWorkspaceId", clock_timestamp(), statement_timestamp()
    from jsonb_to_recordset(${jsonRows(rows)}) as waiting (
      ordinal int, "runId" uuid, "companyId" uuid, "environmentId" uuid, "executionWorkspaceId" uuid)
    order by ordinal
    on conflict (run_id) do update set
      environment_id = excluded.environment_id,
      execution_workspace_id = excluded.execution_workspace_id,
      waiting_since = case
        when (wait.environment_id, wait.execution_workspace_id)
          = (excluded.environment_id, excluded.execution_workspace_id) then wait.waiting_since
        else excluded.waiting_since
      end,
      last_asked_at = excluded.last_asked_at
    returning jsonb_build_object('runId', wait.run_id, 'since', wait.waiting_since) as wait`,
  );
  return new Map(waits.map(({ wait }) => [wait.runId, wait.since]));
}

/** Deletes the waits of runs that no longer wait. */
export async function forgetWaits(tx: Transaction, runIds: readonly string[]): Promise<void> {
  if (runIds.length === 0) return;
  await tx.execute(sql`delete from lessor.workspace_waits where run_id = any(${uuidArray(runIds)})`);
}
