import { sql } from 'drizzle-orm';
import type { RunStatus, TerminalRunStatus } from '../../contracts/index.ts';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A run that was reported to have started. */
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
 * company's run is left alone (same-company). Each run id may be given once; rows are locked in the order of ids, as
 * batches of different companies can be about the same run.
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

/** A run that was reported to have ended. */
export interface EndedRun {
  companyId: string;
  runId: string;
  status: TerminalRunStatus;
  failureReason?: string | undefined;
  finishedAt: string;
}

/**
 * Writes the end of runs into the ledger. The first end wins; an end that comes before its start leaves a finished
 * run for the start to find (any-order). Each run id may be given once; rows are locked in the order of ids.
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
