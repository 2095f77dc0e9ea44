import type { Sql } from 'postgres';
import type { CompanyStatus, TerminalRunStatus } from '../../src/contracts/index.ts';

/** Writes to the tables without any code of Lessor: by the passage of time and by other programs. */

/** Empties the tables before a sequence. */
export async function clear(sql: Sql): Promise<void> {
  for (const table of [
    'activity_log',
    'workspace_waits',
    'environment_leases',
    'heartbeat_runs',
    'environments',
    'companies',
  ]) {
    await sql`delete from ${sql(`lessor.${table}`)}`;
  }
}

/** Lets time pass by moving all timestamps into the past. */
export async function letTimePass(sql: Sql, seconds: number): Promise<void> {
  const passed = sql`make_interval(secs => ${seconds})`;
  await sql`
    with leases as (
      update lessor.environment_leases set acquired_at = acquired_at - ${passed}, expires_at = expires_at - ${passed},
        last_used_at = last_used_at - ${passed}, updated_at = updated_at - ${passed},
        released_at = released_at - ${passed}, acquiring_until = acquiring_until - ${passed}
    ), runs as (
      update lessor.heartbeat_runs set created_at = created_at - ${passed}, updated_at = updated_at - ${passed}
    )
    update lessor.workspace_waits set waiting_since = waiting_since - ${passed}, last_asked_at = last_asked_at - ${passed}`;
}

/** A control plane writes the end of a run directly, without regard to leases. */
export async function writeEnd(sql: Sql, runId: string, status: TerminalRunStatus): Promise<void> {
  await sql`
    update lessor.heartbeat_runs set status = ${status}, finished_at = now(), updated_at = now()
    where id = ${runId} and status in ('queued', 'running')`;
}

export async function setCompanyStatus(sql: Sql, companyId: string, status: CompanyStatus): Promise<void> {
  await sql`update lessor.companies set status = ${status} where id = ${companyId}`;
}
