import { sql } from 'drizzle-orm';
import type {
  EnvironmentDriver,
  LeasePolicy,
  LeaseStatus,
  Metadata,
  TerminalRunStatus,
} from '../../contracts/index.ts';
import { precompile } from '../pipeline.ts';
import type { PrecompiledStatement } from '../pipeline.ts';
import { placementSnapshot, recordAcquired } from './acquire-leases.ts';
import { ACTOR_PLACEHOLDERS } from './activity.ts';
import type { Actor } from './activity.ts';
import { isLocked } from './companies.ts';
import { endedLeaseValues, endedLeaseColumns, endingByRun, isLive, nextStatus, recordEnded } from './end-leases.ts';
import { arrayLiteral, arrayParam } from './parameters.ts';
import type { Renewal, RunLease } from './renew-leases.ts';
import type { EndedRun } from './runs.ts';

// The statements of the fast path. Each is sent behind `lockKnownCompanies` in a pipelined transaction, decides on its own
// which of its runs are of the common form, and does nothing about the others: they have no row in what it returns and
// fall through to the general path. So does every run of a company whose lock the transaction does not hold (fenced).
// Each run id may be given once.
//
// The statements of the general path do the same for any run, and are no substitute. Postgres CPU per operation, in batches
// of 400 and of 20: an end takes 71 and 105 µs here; in the shape of `applyEndings`, which first selects what to end, 70
// and 217. A renewal takes 40 and 72 µs here, and 53 and 179 with all that `renewLeases` checks.
//
// The planner cannot estimate row counts of `unnest` and of CTEs, and picks nested loops over all of their rows. `limit 1`
// forces an index lookup per row, and `(… in …) is true` a hashed one.

/** A run that is not in the ledger yet and is to execute on its company's `Local`, in no execution workspace. */
export interface NewRun {
  companyId: string;
  runId: string;
  agentId?: string | undefined;
  issueId?: string | undefined;
  projectId?: string | undefined;
  startedAt: string;
  leasePolicy: LeasePolicy;
  ttlSeconds: number;
  metadata?: Metadata | undefined;
}

/** A row that {@link grantNewRuns} returns. */
export interface NewLeaseRow {
  id: string;
  runId: string;
  fencingToken: number;
  acquiredAt: string;
  expiresAt: string;
  environmentId: string;
  name: string;
  driver: EnvironmentDriver;
  config: Metadata;
}

/**
 * Starts new runs: writes the run with its placement snapshot, its active lease and the event `lease_acquired`
 * (always-audited, always-bounded). What `recordStartedRuns` and `acquireLeases` do on the general path. Falls through
 * where the run is in the ledger, or its company is not active or has no active `Local`.
 *
 * @param commonMetadata is added to the metadata of each lease
 */
export function grantNewRuns(runs: readonly NewRun[], commonMetadata: Metadata, actor: Actor): PrecompiledStatement {
  return bindGrant({
    companyId: arrayLiteral(runs.map((run) => run.companyId)),
    runId: arrayLiteral(runs.map((run) => run.runId)),
    agentId: arrayLiteral(runs.map((run) => run.agentId)),
    issueId: arrayLiteral(runs.map((run) => run.issueId)),
    projectId: arrayLiteral(runs.map((run) => run.projectId)),
    startedAt: arrayLiteral(runs.map((run) => run.startedAt)),
    leasePolicy: arrayLiteral(runs.map((run) => run.leasePolicy)),
    ttlSeconds: arrayLiteral(runs.map((run) => run.ttlSeconds)),
    metadata: arrayLiteral(runs.map((run) => run.metadata && JSON.stringify(run.metadata))),
    commonMetadata: JSON.stringify(commonMetadata),
    actorType: actor.type,
    actorId: actor.id,
  });
}

/**
 * A UUID of version 7, also on Postgres before 18, which has no function for it. Ids in the order of time are neighbours in
 * an index, where random ones touch pages all over it.
 */
const timeOrderedId = sql`(
          (select lpad(to_hex((extract(epoch from statement_timestamp()) * 1000)::bigint), 12, '0') || '7')
          || right(gen_random_uuid()::text, 21))::uuid`;

const bindGrant = precompile(sql`
    with candidate as materialized (
      select ${timeOrderedId} as id, started.company_id, environment.id as environment_id,
        environment.name as environment_name, environment.driver, environment.config,
        run_id as heartbeat_run_id, agent_id, issue_id, project_id, started_at, lease_policy, ttl_seconds,
        coalesce(started.metadata, '{}') || ${sql.placeholder('commonMetadata')}::text::jsonb as metadata,
        nextval('lessor.fencing_tokens') as fencing_token
      from unnest(
        ${arrayParam('uuid', 'companyId')},
        ${arrayParam('uuid', 'runId')},
        ${arrayParam('uuid', 'agentId')},
        ${arrayParam('uuid', 'issueId')},
        ${arrayParam('uuid', 'projectId')},
        ${arrayParam('timestamptz', 'startedAt')},
        ${arrayParam('text', 'leasePolicy')},
        ${arrayParam('int', 'ttlSeconds')},
        ${arrayParam('jsonb', 'metadata')}
      ) as started (company_id, run_id, agent_id, issue_id, project_id, started_at, lease_policy, ttl_seconds, metadata)
      cross join lateral (
        select local.* from lessor.environments local
        join lessor.companies company on company.id = local.company_id and company.status = 'active'
        where local.company_id = started.company_id and local.driver = 'local' and local.status = 'active'
        limit 1
      ) environment
      where ${isLocked(sql`started.company_id`)}
    ), run as (
      insert into lessor.heartbeat_runs
        (id, company_id, agent_id, issue_id, project_id, status, started_at, context_snapshot)
      select heartbeat_run_id, company_id, agent_id, issue_id, project_id, 'running', started_at,
        ${placementSnapshot}
      from candidate lease, lateral (select environment_id, environment_name, driver) environment (id, name, driver)
      order by heartbeat_run_id
      on conflict (id) do nothing
      returning id
    ), lease as materialized (
      select *, 'active' as status, null::uuid as execution_workspace_id, statement_timestamp() as acquired_at,
        statement_timestamp() + make_interval(secs => ttl_seconds) as expires_at
      from candidate
      where (heartbeat_run_id in (select id from run)) is true
    ), inserted_lease as (
      insert into lessor.environment_leases (id, company_id, environment_id, heartbeat_run_id, issue_id, status,
        lease_policy, provider, fencing_token, ttl_seconds, acquired_at, last_used_at, expires_at, metadata)
      select id, company_id, environment_id, heartbeat_run_id, issue_id, status, lease_policy, driver, fencing_token,
        ttl_seconds, acquired_at, acquired_at, expires_at, metadata
      from lease
      order by fencing_token
    ), event as (${recordAcquired(ACTOR_PLACEHOLDERS, { leases: sql.raw('lease'), agentId: sql.raw('lease.agent_id') })}
    )
    select id, heartbeat_run_id as "runId", fencing_token::float8 as "fencingToken",
      to_json(acquired_at) as "acquiredAt", to_json(expires_at) as "expiresAt",
      environment_id as "environmentId", environment_name as name, driver, config
    from lease`);

/** A row that {@link endRunningRuns} returns: a run that has ended, or a lease that ended with it. */
export type RunEndRow =
  | { runId: string; runStatus: TerminalRunStatus; leaseId: null; leaseStatus: null }
  | { runId: string; runStatus: null; leaseId: string; leaseStatus: LeaseStatus };

/**
 * Ends running runs, and their leases with them (no-leak, always-audited, always-explained). What `recordEndedRuns` and
 * `endLeasesOfRuns` do on the general path. Falls through where the run has ended already (first-end-wins), is not in the
 * ledger (any-order), or is another company's (same-company).
 */
export function endRunningRuns(runs: readonly EndedRun[], actor: Actor): PrecompiledStatement {
  return bindEnd({
    companyId: arrayLiteral(runs.map((run) => run.companyId)),
    runId: arrayLiteral(runs.map((run) => run.runId)),
    status: arrayLiteral(runs.map((run) => run.status)),
    failureReason: arrayLiteral(runs.map((run) => run.failureReason)),
    finishedAt: arrayLiteral(runs.map((run) => run.finishedAt)),
    actorType: actor.type,
    actorId: actor.id,
  });
}

const bindEnd = precompile(sql`
    with run as (
      update lessor.heartbeat_runs run set
        status = ended.status,
        failure_reason = ended.failure_reason,
        finished_at = ended.finished_at,
        updated_at = now()
      from unnest(
        ${arrayParam('uuid', 'companyId')},
        ${arrayParam('uuid', 'runId')},
        ${arrayParam('text', 'status')},
        ${arrayParam('text', 'failureReason')},
        ${arrayParam('timestamptz', 'finishedAt')}
      ) as ended (company_id, run_id, status, failure_reason, finished_at)
      where run.id = run_id and run.company_id = ended.company_id and run.status in ('queued', 'running')
        and ${isLocked(sql`ended.company_id`)}
      returning run.id, run.status, run.failure_reason, run.agent_id
    ), lease as (
      update lessor.environment_leases lease set ${endedLeaseColumns} = (${endedLeaseValues}
        from (select *, ${nextStatus} as next_status from (select ${endingByRun}) decided) ending)
      from run
      where lease.heartbeat_run_id = run.id and ${isLive}
      returning lease.*, null as from_status, run.agent_id, run.status as run_status
    ), event as (${recordEnded(ACTOR_PLACEHOLDERS, sql`lease, lateral (select agent_id, run_status as status) run`)}
    )
    select id as "runId", status as "runStatus", null::uuid as "leaseId", null as "leaseStatus" from run
    union all
    (select heartbeat_run_id, null, id, status from lease order by fencing_token)`);

/** A row that {@link renewSingleLeases} returns. */
export type RenewedLease = Omit<RunLease, 'status'>;

/**
 * Extends the only lease that a run ever had, which is active and has not expired, so that there is nothing to record.
 * What `renewLeases` and `readRunLeases` do on the general path. Falls through for every other run.
 */
export function renewSingleLeases(renewals: readonly Renewal[]): PrecompiledStatement {
  return bindRenewal({
    companyId: arrayLiteral(renewals.map((renewal) => renewal.companyId)),
    runId: arrayLiteral(renewals.map((renewal) => renewal.runId)),
    ttlSeconds: arrayLiteral(renewals.map((renewal) => renewal.ttlSeconds)),
  });
}

const bindRenewal = precompile(sql`
    update lessor.environment_leases lease set
      expires_at = greatest(expires_at,
        statement_timestamp() + make_interval(secs => coalesce(renewal.ttl_seconds, lease.ttl_seconds))),
      last_used_at = statement_timestamp(),
      updated_at = statement_timestamp()
    from unnest(
      ${arrayParam('uuid', 'companyId')},
      ${arrayParam('uuid', 'runId')},
      ${arrayParam('int', 'ttlSeconds')}
    ) as renewal (company_id, run_id, ttl_seconds)
    where lease.heartbeat_run_id = renewal.run_id and lease.company_id = renewal.company_id
      and ${isLive} and lease.status <> 'pending' and lease.expires_at > statement_timestamp()
      and ${isLocked(sql`renewal.company_id`)}
      and not exists (select from lessor.environment_leases other
        where other.heartbeat_run_id = renewal.run_id and other.id <> lease.id)
    returning lease.id, lease.heartbeat_run_id as "runId", to_json(lease.expires_at) as "expiresAt"`);
