import { sql } from 'drizzle-orm';
import type { RunStatus, TerminalRunStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Db, Transaction } from '../connection.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A run whose start was reported. */
export interface StartedRun {
  companyId: string;
  runId: string;
  agentId?: string | undefined;
  issueId?: string | undefined;
  projectId?: string | undefined;
  /** Without it, now. */
  startedAt?: string | undefined;
}

/**
 * Writes runs into the ledger as running. A run that has ended stays ended (first-end-wins, any-order), and another
 * company's run is unchanged (same-company). Each run id may be given once. Rows are locked in the order of ids, since
 * batches of different companies can name the same run.
 */
export async function recordStartedRuns(tx: Transaction, runs: readonly StartedRun[]): Promise<void> {
  await tx.execute(sql`
    insert into lessor.heartbeat_runs as run
      (id, company_id, agent_id, issue_id, project_id, status, started_at)
    select "runId", "companyId", "agentId", "issueId", "projectId", 'running', coalesce("startedAt", now())
    from jsonb_to_recordset(${jsonRows(runs)}) as started (
      "runId" uuid, "companyId" uuid, "agentId" uuid, "issueId" uuid, "projectId" uuid, "startedAt" timestamptz)
    order by "runId"
    on conflict (id) do update set
      status = case run.status when 'queued' then 'running' else run.status end,
      agent_id = coalesce(run.agent_id, excluded.agent_id),
      issue_id = coalesce(run.issue_id, excluded.issue_id),
      project_id = coalesce(run.project_id, excluded.project_id),
      started_at = coalesce(run.started_at, excluded.started_at),
      updated_at = now()
    where run.company_id = excluded.company_id and (run.status = 'queued' or run.started_at is null)`);
}

/** A run whose end was reported. */
export interface EndedRun {
  companyId: string;
  runId: string;
  status: TerminalRunStatus;
  failureReason?: string | undefined;
  finishedAt: string;
}

/**
 * Writes the end of runs into the ledger. The first end is final (first-end-wins). An end that arrives before the start
 * leaves a finished run for the start to find (any-order). Each run id may be given once. Rows are locked in the order of
 * ids.
 */
export async function recordEndedRuns(tx: Transaction, runs: readonly EndedRun[]): Promise<void> {
  await tx.execute(sql`
    insert into lessor.heartbeat_runs as run (id, company_id, status, failure_reason, finished_at)
    select "runId", "companyId", status, "failureReason", "finishedAt"
    from jsonb_to_recordset(${jsonRows(runs)}) as ended (
      "runId" uuid, "companyId" uuid, status text, "failureReason" text, "finishedAt" timestamptz)
    order by "runId"
    on conflict (id) do update set
      status = excluded.status,
      failure_reason = excluded.failure_reason,
      finished_at = excluded.finished_at,
      updated_at = now()
    where run.company_id = excluded.company_id and run.status in ('queued', 'running')`);
}

/** A run as the ledger has it. */
export interface RecordedRun {
  id: string;
  companyId: string;
  status: RunStatus;
}

/** Reads runs back, by id. */
export async function readRuns(tx: Transaction, runIds: readonly string[]): Promise<Map<string, RecordedRun>> {
  const runs = await queryRows<RecordedRun>(
    tx,
    sql`
    select id, company_id as "companyId", status from lessor.heartbeat_runs where id = any(${uuidArray(runIds)})`,
  );
  return new Map(runs.map((run) => [run.id, run]));
}

/** A run older than the retention, with its position in a pass over them. */
export interface OldRun {
  runId: string;
  createdAt: string;
  /** Whether it can be removed, as far as can be seen without its lock. */
  removable: boolean;
}

/**
 * Whether the run's end is older than the retention. `finished_at` comes from a producer's clock, so the last change by
 * the database's clock must be as old.
 */
const pastRetention = (retentionSeconds: number) => sql`
  run.status in ('succeeded', 'failed', 'cancelled', 'timed_out')
  and greatest(run.finished_at, run.updated_at) <= now() - make_interval(secs => ${retentionSeconds})`;

/**
 * Runs older than the retention, oldest first, through the index `heartbeat_runs_retention`, also those that stay: the
 * cost of a page does not depend on how many of them there are. `limit 1` forces an index lookup of the lease per run,
 * instead of a scan of all leases.
 */
export async function findOldRuns(db: Db, retentionSeconds: number, limit: number, after?: OldRun): Promise<OldRun[]> {
  return queryRows<OldRun>(
    db,
    sql`
    select run.id as "runId", run.created_at::text as "createdAt",
      ${pastRetention(retentionSeconds)} and lease.id is null as removable
    from lessor.heartbeat_runs run
    left join lateral (
      select id from lessor.environment_leases lease where lease.heartbeat_run_id = run.id limit 1
    ) lease on true
    where run.created_at <= now() - make_interval(secs => ${retentionSeconds})
      and ${after === undefined ? sql`true` : sql`(run.created_at, run.id) > (${after.createdAt}::timestamptz, ${after.runId}::uuid)`}
    order by run.created_at, run.id limit ${limit}`,
  );
}

/**
 * Removes those of the runs that are past their retention and have no lease, with their waits. Their activity events stay.
 *
 * It takes two statements, because a lease can be inserted in between: the first one locks the runs, skipping locked ones,
 * which blocks new leases that refer to them; the second one sees every lease inserted before.
 *
 * @returns the ids of the runs that were removed
 */
export async function removeOldRuns(
  tx: Transaction,
  runIds: readonly string[],
  retentionSeconds: number,
): Promise<string[]> {
  const locked = await queryRows<{ id: string }>(
    tx,
    sql`
    select run.id from lessor.heartbeat_runs run
    where run.id = any(${uuidArray(runIds)}) and ${pastRetention(retentionSeconds)}
    for update skip locked`,
  );
  const removed = await queryRows<{ id: string }>(
    tx,
    sql`
    delete from lessor.heartbeat_runs run
    where run.id = any(${uuidArray(locked.map((run) => run.id))})
      and not exists (select from lessor.environment_leases lease where lease.heartbeat_run_id = run.id)
    returning run.id`,
  );
  return removed.map((run) => run.id);
}
