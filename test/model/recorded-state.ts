import type { Sql } from 'postgres';
import type { CleanupStatus, EntityType, LeasePolicy, LeaseStatus } from '../../src/contracts/index.ts';
import { environmentOf } from './model.ts';
import type { Model, ModelLease } from './model.ts';
import { locationOf } from './names.ts';
import type { NameableLease, Names } from './names.ts';
import { UNIT_SECONDS } from './steps.ts';

/** The state that both sides must agree on, as plain data. */
export type State = Record<'companies' | 'environments' | 'runs' | 'leases' | 'waits' | 'rejections', object>;

export function stateOfModel(model: Model): State {
  return {
    companies: Object.fromEntries(model.companies),
    environments: Object.fromEntries(
      [...model.environments].map(([name, environment]) => [
        name,
        // In the order of their fencing tokens.
        { ...environment, leases: model.leases.filter((lease) => lease.environment === name).map(({ id }) => id) },
      ]),
    ),
    runs: Object.fromEntries(model.runs),
    leases: Object.fromEntries(model.leases.map((lease) => [lease.id, leaseStateOfModel(lease, model.now)])),
    // In the order of their start.
    waits: [...model.waits].map(([run, { environment, workspace, since, lastAsked }]) => ({
      run,
      environment,
      workspace,
      waited: model.now - since,
      asked: model.now - lastAsked,
    })),
    rejections: Object.fromEntries(model.rejections),
  };
}

function leaseStateOfModel(lease: ModelLease, now: number) {
  const {
    id: _id,
    expiresAt,
    acquiringUntil,
    touchedAt: _touchedAt,
    byDriver: _by,
    endedTwice: _twice,
    ...rest
  } = lease;
  return { ...rest, remaining: expiresAt - now, acquiring: acquiringUntil === null ? null : acquiringUntil - now };
}

interface LeaseRow extends NameableLease {
  runId: string | null;
  workspaceId: string | null;
  status: LeaseStatus;
  policy: LeasePolicy;
  ttl: number;
  remaining: number;
  failureReason: string | null;
  cleanup: CleanupStatus | null;
  events: string[];
  providerLeaseId: string | null;
  /** Seconds until its acquisition times out. */
  acquiring: number | null;
  endingStatus: LeaseStatus | null;
  endingReason: string | null;
}

/** The same state in Postgres, which holds only the rows of the sequence. */
export async function stateOfPostgres(sql: Sql, names: Names): Promise<State> {
  const [companies, environments, runs, leases, waits, rejections] = await Promise.all([
    sql<{ id: string; status: string }[]>`select id, status from lessor.companies`,
    sql<{ companyId: string; driver: string; status: string; events: string[]; leases: string[] }[]>`
      select company_id as "companyId", driver, status, ${eventsOf(sql, 'environment')},
        array(select id from lessor.environment_leases where environment_id = entity.id order by fencing_token) as leases
      from lessor.environments entity`,
    sql<{ id: string; companyId: string; status: string; failureReason: string | null; contextLease: string | null }[]>`
      select id, company_id as "companyId", status, failure_reason as "failureReason",
        context_snapshot -> 'paperclipEnvironment' ->> 'leaseId' as "contextLease"
      from lessor.heartbeat_runs`,
    sql<LeaseRow[]>`
      select entity.id, entity.company_id as "companyId", driver, heartbeat_run_id as "runId",
        execution_workspace_id as "workspaceId", entity.status, lease_policy as policy, ttl_seconds as ttl,
        extract(epoch from expires_at - now())::float8 as remaining, failure_reason as "failureReason",
        cleanup_status as cleanup, fencing_token::float8 as "fencingToken", ${eventsOf(sql, 'environment_lease')},
        provider_lease_id as "providerLeaseId", extract(epoch from acquiring_until - now())::float8 as acquiring,
        ending_status as "endingStatus", ending_reason as "endingReason"
      from lessor.environment_leases entity join lessor.environments environment on environment.id = environment_id`,
    sql<{ runId: string; companyId: string; driver: string; workspaceId: string; waited: number; asked: number }[]>`
      select run_id as "runId", wait.company_id as "companyId", driver, execution_workspace_id as "workspaceId",
        extract(epoch from now() - waiting_since)::float8 as waited,
        extract(epoch from now() - last_asked_at)::float8 as asked
      from lessor.workspace_waits wait join lessor.environments environment on environment.id = environment_id
      order by waiting_since`,
    sql<{ companyId: string; runId: string; code: string }[]>`
      select company_id as "companyId", run_id as "runId", details ->> 'code' as code
      from lessor.activity_log where action = 'environment.lease_denied'`,
  ]);
  names.learn(leases);
  const company = (id: string) => names.companies.indexOf(id);
  return {
    companies: Object.fromEntries(companies.map(({ id, status }) => [company(id), status])),
    environments: Object.fromEntries(
      environments.map(({ companyId, driver, leases: ids, ...rest }) => [
        environmentOf(company(companyId), locationOf(driver)),
        { ...rest, leases: ids.map((id) => names.lease(id)) },
      ]),
    ),
    runs: Object.fromEntries(
      runs.map(({ id, companyId, contextLease, ...rest }) => [
        names.run(id),
        { ...rest, company: company(companyId), contextLease: contextLease && names.lease(contextLease) },
      ]),
    ),
    leases: Object.fromEntries(leases.map((lease) => [names.lease(lease.id), leaseState(lease, names)])),
    waits: waits.map(({ runId, companyId, driver, workspaceId, waited, asked }) => ({
      run: names.run(runId),
      environment: environmentOf(company(companyId), locationOf(driver)),
      workspace: names.workspace(workspaceId),
      waited: wholeUnits(Math.floor, waited),
      asked: wholeUnits(Math.floor, asked),
    })),
    rejections: Object.fromEntries(
      rejections.map(({ companyId, runId, code }) => [`${company(companyId)} ${names.run(runId)}`, code]),
    ),
  };
}

function leaseState(lease: LeaseRow, names: Names) {
  const { status, policy, ttl, remaining, failureReason, cleanup, events } = lease;
  const { providerLeaseId, acquiring, endingStatus, endingReason } = lease;
  const company = names.companies.indexOf(lease.companyId);
  return {
    company,
    environment: environmentOf(company, locationOf(lease.driver)),
    run: names.run(lease.runId),
    workspace: names.workspace(lease.workspaceId),
    status,
    policy,
    ttl,
    cleanup,
    events,
    remaining: wholeUnits(Math.ceil, remaining),
    failureReason: withoutInstants(failureReason),
    providerLeaseId,
    acquiring: acquiring === null ? null : wholeUnits(Math.ceil, acquiring),
    ending: endingStatus && { status: endingStatus, reason: withoutInstants(endingReason) },
  };
}

/** The events of a row `entity`, oldest first. */
const eventsOf = (sql: Sql, type: EntityType) => sql`
  array(
    select regexp_replace(action, '^environment\.(lease_)?', '') from lessor.activity_log event
    where event.company_id = entity.company_id and event.entity_id = entity.id and event.entity_type = ${type}
    order by event.id
  ) as events`;

/** Rounds off the real time that a sequence takes, which is less than a unit. */
const wholeUnits = (round: (units: number) => number, seconds: number): number =>
  // Adding zero turns -0 into 0.
  round(seconds / UNIT_SECONDS) * UNIT_SECONDS + 0;

export const withoutInstants = (reason: string | null): string | null =>
  reason && reason.replaceAll(/\d{4}-\d\d-\d\dT[\d:]+Z/g, '<instant>');
