import { sql } from 'drizzle-orm';
import { queryRows } from '../connection.ts';
import type { Transaction } from '../connection.ts';
import { jsonRows, uuidArray } from './parameters.ts';

/** A run that asked for an execution workspace and did not get it. */
export interface UnservedRun {
  companyId: string;
  runId: string;
  environmentId: string;
  executionWorkspaceId: string;
}

/**
 * Notes that runs wait, in the order given, so that the longest waiter is next (single-flight). A run that waits already
 * keeps its place, unless it asks for another workspace by now. Each run id may be given once.
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
    from jsonb_to_recordset(${jsonRows(rows)}) as unserved (
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

/** Forgets runs that do not wait any more. */
export async function forgetWaits(tx: Transaction, runIds: readonly string[]): Promise<void> {
  if (runIds.length === 0) return;
  await tx.execute(sql`delete from lessor.workspace_waits where run_id = any(${uuidArray(runIds)})`);
}
