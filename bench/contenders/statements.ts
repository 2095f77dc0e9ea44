import { Pool } from 'pg';
import type { PoolClient } from 'pg';
import { DEFAULT_TTL_SECONDS } from '../../src/contracts/index.ts';
import { finishOf, startOf } from '../workload.ts';
import type { Phase, Run } from '../workload.ts';

/**
 * The rows of one run, written statement by statement, as a service without set-based statements does: the same rows as
 * Lessor's, under the same constraints, with parameters as in the documentation of node-postgres. The companies are
 * registered.
 */

type Connection = Pick<PoolClient, 'query'>;

const ACTOR = ['system', 'bench'] as const;

/** Opens a pool with all its connections: to open one takes as long as several jobs. */
export async function openPool(databaseUrl: string, connections: number): Promise<Pool> {
  const pool = new Pool({ connectionString: databaseUrl, max: connections, idleTimeoutMillis: 0 });
  // A lost connection also rejects the query on it.
  pool.on('error', () => undefined);
  const clients = await Promise.all(Array.from({ length: connections }, () => pool.connect()));
  for (const client of clients) client.release();
  return pool;
}

export async function inTransaction(pool: Pool, work: (connection: Connection) => Promise<void>): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    await work(client);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

/** Locks the company until the transaction ends. */
export async function lockCompany(connection: Connection, companyId: string): Promise<void> {
  await run(connection, 'select id from lessor.companies where id = $1 for update', [companyId]);
}

/** Writes the rows of a run's start or end. */
export async function writeRun(connection: Connection, phase: Phase, target: Run): Promise<void> {
  if (phase === 'start') await startRun(connection, target);
  else await finishRun(connection, target);
}

async function startRun(connection: Connection, target: Run): Promise<void> {
  const { companyId, runId, startedAt } = startOf(target);
  const environmentId = await ensureLocalEnvironment(connection, companyId);
  await run(
    connection,
    `insert into lessor.heartbeat_runs (id, company_id, status, started_at) values ($1, $2, 'running', $3)
     on conflict (id) do nothing`,
    [runId, companyId, startedAt],
  );
  const [lease] = await run<{ id: string; fencing_token: string; expires_at: Date }>(
    connection,
    `insert into lessor.environment_leases (company_id, environment_id, heartbeat_run_id, status, lease_policy, provider,
       ttl_seconds, acquired_at, last_used_at, expires_at, metadata)
     values ($1, $2, $3, 'active', 'ephemeral', 'local', $4::int, statement_timestamp(), statement_timestamp(),
       statement_timestamp() + make_interval(secs => $4::int), $5)
     returning id, fencing_token, expires_at`,
    [companyId, environmentId, runId, DEFAULT_TTL_SECONDS, SELECTION],
  );
  await run(
    connection,
    `update lessor.heartbeat_runs set context_snapshot = context_snapshot || $2, updated_at = now() where id = $1`,
    [
      runId,
      {
        paperclipEnvironment: { id: environmentId, name: 'Local', driver: 'local', leaseId: lease!.id },
        lessorFencingToken: Number(lease!.fencing_token),
      },
    ],
  );
  await insertActivity(connection, target, 'environment.lease_acquired', lease!.id, {
    environmentId,
    leasePolicy: 'ephemeral',
    fencingToken: Number(lease!.fencing_token),
    expiresAt: lease!.expires_at,
  });
}

async function finishRun(connection: Connection, target: Run): Promise<void> {
  const { runId, status, finishedAt } = finishOf(target);
  await run(
    connection,
    `update lessor.heartbeat_runs set status = $2, finished_at = $3, updated_at = now()
     where id = $1 and status in ('queued', 'running')`,
    [runId, status, finishedAt],
  );
  const [lease] = await run<{ id: string; environment_id: string; fencing_token: string }>(
    connection,
    `update lessor.environment_leases set status = 'released', cleanup_status = 'success',
       released_at = statement_timestamp(), last_used_at = statement_timestamp(), updated_at = statement_timestamp()
     where heartbeat_run_id = $1 and status in ('pending', 'active')
     returning id, environment_id, fencing_token`,
    [runId],
  );
  await insertActivity(connection, target, 'environment.lease_released', lease!.id, {
    environmentId: lease!.environment_id,
    runStatus: status,
    cleanupStatus: 'success',
    fencingToken: Number(lease!.fencing_token),
  });
}

const SELECTION = {
  environmentSelection: { source: 'company', reason: 'neither the issue, the project nor the agent names one' },
};

async function ensureLocalEnvironment(connection: Connection, companyId: string): Promise<string> {
  const find = () =>
    run<{ id: string }>(connection, `select id from lessor.environments where company_id = $1 and driver = 'local'`, [
      companyId,
    ]);
  const [found] = await find();
  if (found !== undefined) return found.id;
  const [created] = await run<{ id: string }>(
    connection,
    `insert into lessor.environments (company_id, name, driver) values ($1, 'Local', 'local')
     on conflict (company_id) where driver = 'local' do nothing returning id`,
    [companyId],
  );
  if (created === undefined) return (await find())[0]!.id;
  await run(
    connection,
    `insert into lessor.activity_log (company_id, actor_type, actor_id, action, entity_type, entity_id, details)
     values ($1, $2, $3, 'environment.created', 'environment', $4, $5)`,
    [companyId, ...ACTOR, created.id, { name: 'Local', driver: 'local' }],
  );
  return created.id;
}

async function insertActivity(
  connection: Connection,
  { companyId, runId }: Run,
  action: string,
  leaseId: string,
  details: object,
): Promise<void> {
  await run(
    connection,
    `insert into lessor.activity_log (company_id, actor_type, actor_id, action, entity_type, entity_id, run_id, details)
     values ($1, $2, $3, $4, 'environment_lease', $5, $6, $7)`,
    [companyId, ...ACTOR, action, leaseId, runId, details],
  );
}

async function run<Row extends object>(connection: Connection, text: string, values: unknown[]): Promise<Row[]> {
  const { rows } = await connection.query<Row>(text, values);
  return rows;
}
