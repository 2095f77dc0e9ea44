import { randomUUID } from 'node:crypto';
import type { Sql as Client, TransactionSql } from 'postgres';
import type {
  CleanupStatus,
  CompanyStatus,
  EnvironmentDriver,
  EnvironmentStatus,
  LeasePolicy,
  LeaseStatus,
  RunFinished,
  RunHeartbeat,
  RunStarted,
  RunStatus,
} from '../../src/contracts/index.ts';

/** A client, or a transaction open on one. */
type Sql = Client | TransactionSql;

/** A `run-started` payload of a new run, and of a new company unless one is given. */
export function runStarted(overrides: Partial<RunStarted> = {}): RunStarted {
  return {
    version: 1,
    companyId: randomUUID(),
    runId: randomUUID(),
    startedAt: new Date().toISOString(),
    ...overrides,
  };
}

type OfRun<Payload> = Pick<RunStarted, 'companyId' | 'runId'> & Partial<Payload>;

/** The `run-finished` payload of a run, `succeeded` by default. */
export function runFinished({ companyId, runId }: OfRun<object>, overrides: Partial<RunFinished> = {}): RunFinished {
  return { version: 1, companyId, runId, status: 'succeeded', finishedAt: new Date().toISOString(), ...overrides };
}

/** A `run-heartbeat` payload of a run. */
export function runHeartbeat({ companyId, runId }: OfRun<object>, overrides: Partial<RunHeartbeat> = {}): RunHeartbeat {
  return { version: 1, companyId, runId, at: new Date().toISOString(), ...overrides };
}

/** Writes a company's row and returns its id. */
export async function insertCompany(
  sql: Sql,
  { id = randomUUID(), status = 'active' }: { id?: string; status?: CompanyStatus } = {},
): Promise<string> {
  await sql`insert into lessor.companies (id, status) values (${id}, ${status})`;
  return id;
}

/** The config of an environment on a host that is never connected to. */
export const SSH_CONFIG = {
  host: 'host.example',
  port: 22,
  username: 'agent',
  remoteWorkspacePath: '/srv/work',
  privateKey: 'file:/etc/lessor/id_ed25519',
  strictHostKeyChecking: false,
  workspaceMode: 'staged',
} as const;

/** The values of an environment's row. */
export interface EnvironmentRow {
  companyId: string;
  driver?: EnvironmentDriver;
  name?: string;
  status?: EnvironmentStatus;
  config?: Record<string, unknown>;
}

/** Writes an environment's row, of the driver `local` by default, and returns its id. */
export async function insertEnvironment(
  sql: Sql,
  { companyId, driver = 'local', name = 'Local', status = 'active', config = {} }: EnvironmentRow,
): Promise<string> {
  const [row] = await sql<[{ id: string }]>`
    insert into lessor.environments (company_id, name, driver, status, config)
    values (${companyId}, ${name}, ${driver}, ${status}, ${JSON.stringify(config)}::text::jsonb) returning id`;
  return row.id;
}

/** The values of a run's row. */
export interface RunRow {
  companyId: string;
  id?: string;
  status?: RunStatus;
}

/** Writes a run's row, running by default, and returns its id. A terminal one is finished now. */
export async function insertRun(
  sql: Sql,
  { companyId, id = randomUUID(), status = 'running' }: RunRow,
): Promise<string> {
  await sql`
    insert into lessor.heartbeat_runs (id, company_id, status, started_at, finished_at)
    values (${id}, ${companyId}, ${status}, now(), case when ${status} not in ('queued', 'running') then now() end)`;
  return id;
}

/** The values of a lease's row. */
export interface LeaseRow {
  companyId: string;
  environmentId: string;
  runId?: string | null;
  executionWorkspaceId?: string | null;
  status?: LeaseStatus;
  leasePolicy?: LeasePolicy;
  provider?: string | null;
  fencingToken?: number;
  cleanupStatus?: CleanupStatus | null;
  failureReason?: string | null;
}

/**
 * Writes a lease's row, active for five minutes by default, and the event of its acquisition.
 * Returns its id.
 */
export async function insertLease(sql: Sql, lease: LeaseRow): Promise<string> {
  const { companyId, environmentId, runId = null, executionWorkspaceId = null } = lease;
  const {
    status = 'active',
    leasePolicy = 'ephemeral',
    provider = 'local',
    cleanupStatus = null,
    failureReason = null,
  } = lease;
  const [row] = await sql<[{ id: string }]>`
    with lease as (
      insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, execution_workspace_id,
        status, lease_policy, provider, ttl_seconds, expires_at, fencing_token, cleanup_status, failure_reason,
        released_at)
      values (${companyId}, ${environmentId}, ${runId}, ${executionWorkspaceId}, ${status}, ${leasePolicy}, ${provider},
        300, now() + interval '300 s', coalesce(${lease.fencingToken ?? null}::bigint, nextval('lessor.fencing_tokens')),
        ${cleanupStatus}, ${failureReason}, case when ${status} in ('released', 'expired', 'failed') then now() end)
      returning *
    ), event as (
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
      select company_id, 'test', 'environment.lease_acquired', 'environment_lease', id, heartbeat_run_id from lease
    )
    select id from lease`;
  return row.id;
}

/** Moves the expiry of a lease into the past. */
export async function backdateExpiry(sql: Sql, leaseId: string, secondsAgo = 1): Promise<void> {
  await sql`
    update lessor.environment_leases set expires_at = now() - make_interval(secs => ${secondsAgo})
    where id = ${leaseId}`;
}
