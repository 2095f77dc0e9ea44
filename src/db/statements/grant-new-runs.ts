import { sql } from 'drizzle-orm';
import type { EnvironmentDriver, LeasePolicy, Metadata } from '../../contracts/index.ts';
import { precompile } from '../precompiled-statement.ts';
import type { PrecompiledStatement } from '../precompiled-statement.ts';
import { ACTOR_PLACEHOLDERS } from './activity.ts';
import type { Actor } from './activity.ts';
import { placementInContext, recordAcquired } from './granted-leases.ts';
import { isLocked } from './lock-companies.ts';
import { column, arrayLiteral } from './parameters.ts';

/** A run that was never heard of before and is to execute on its company's `Local`, in no execution workspace. */
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

/** A row of what {@link grantNewRuns} returns. */
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
 * Does for the usual start what `recordStartedRuns` and `acquireLeases` do for any: writes the run, with its placement
 * in its context, makes its lease active and tells it, in one statement (always-audited, always-bounded). A run that is in
 * the ledger already, or whose company is not active or has no active `Local`, is left alone: its row is missing in
 * what is returned. So is one whose company's lock is not held (fenced). Each run id may be given once.
 *
 * @param commonMetadata stands on all of the leases
 *
 * Postgres does not know how many rows it is given, nor how many a part of the statement has written, and would compare
 * each with each. `limit 1` makes it look up environments by index, and `(… in …) is true` runs in a hash table.
 */
export function grantNewRuns(runs: readonly NewRun[], commonMetadata: Metadata, actor: Actor): PrecompiledStatement {
  return bind({
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
 * A UUID of version 7, also by a Postgres that has none yet (18 has). Ids in the order of time stand beside each other in
 * an index, where those of random order would be read from all over one that has grown.
 */
const timeOrderedId = sql`(
          (select lpad(to_hex((extract(epoch from statement_timestamp()) * 1000)::bigint), 12, '0') || '7')
          || right(gen_random_uuid()::text, 21))::uuid`;

const bind = precompile(sql`
    with wanted as materialized (
      select ${timeOrderedId} as id, wanted.company_id, environment.id as environment_id,
        environment.name as environment_name, environment.driver, environment.config,
        run_id as heartbeat_run_id, agent_id, issue_id, project_id, started_at, lease_policy, ttl_seconds,
        coalesce(wanted.metadata, '{}') || ${sql.placeholder('commonMetadata')}::text::jsonb as metadata,
        nextval('lessor.fencing_tokens') as fencing_token
      from unnest(
        ${column('uuid', 'companyId')},
        ${column('uuid', 'runId')},
        ${column('uuid', 'agentId')},
        ${column('uuid', 'issueId')},
        ${column('uuid', 'projectId')},
        ${column('timestamptz', 'startedAt')},
        ${column('text', 'leasePolicy')},
        ${column('int', 'ttlSeconds')},
        ${column('jsonb', 'metadata')}
      ) as wanted (company_id, run_id, agent_id, issue_id, project_id, started_at, lease_policy, ttl_seconds, metadata)
      cross join lateral (
        select local.* from lessor.environments local
        join lessor.companies company on company.id = local.company_id and company.status = 'active'
        where local.company_id = wanted.company_id and local.driver = 'local' and local.status = 'active'
        limit 1
      ) environment
      where ${isLocked(sql`wanted.company_id`)}
    ), placed as (
      insert into lessor.heartbeat_runs
        (id, company_id, agent_id, issue_id, project_id, status, started_at, context_snapshot)
      select heartbeat_run_id, company_id, agent_id, issue_id, project_id, 'running', started_at,
        ${placementInContext}
      from wanted lease, lateral (select environment_id, environment_name, driver) environment (id, name, driver)
      order by heartbeat_run_id
      on conflict (id) do nothing
      returning id
    ), lease as materialized (
      select *, 'active' as status, null::uuid as execution_workspace_id, statement_timestamp() as acquired_at,
        statement_timestamp() + make_interval(secs => ttl_seconds) as expires_at
      from wanted
      where (heartbeat_run_id in (select id from placed)) is true
    ), acquired as (
      insert into lessor.environment_leases (id, company_id, environment_id, heartbeat_run_id, issue_id, status,
        lease_policy, provider, fencing_token, ttl_seconds, acquired_at, last_used_at, expires_at, metadata)
      select id, company_id, environment_id, heartbeat_run_id, issue_id, status, lease_policy, driver, fencing_token,
        ttl_seconds, acquired_at, acquired_at, expires_at, metadata
      from lease
      order by fencing_token
    ), told as (${recordAcquired(ACTOR_PLACEHOLDERS, { leases: sql.raw('lease'), agentId: sql.raw('lease.agent_id') })}
    )
    select id, heartbeat_run_id as "runId", fencing_token::float8 as "fencingToken",
      to_json(acquired_at) as "acquiredAt", to_json(expires_at) as "expiresAt",
      environment_id as "environmentId", environment_name as name, driver, config
    from lease`);
