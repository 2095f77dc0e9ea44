import Table from 'cli-table3';
import type { Sql } from 'postgres';
import { audit } from '../testing/audit/invariants.ts';
import type { Violation } from '../testing/audit/invariants.ts';
import type { DemoRun } from './scenario.ts';
import type { QueueBackend } from '../testing/stores/open-stores.ts';

/** What the demo found in Postgres, in the shape that `--json` prints. */
export interface DemoReport {
  backend: QueueBackend;
  companies: number;
  runs: number;
  leases: { acquired: number; released: number; failed: number; expired: number; live: number };
  activity: { acquired: number; ended: number };
  violations: Violation[];
  seconds: number;
}

/** Counts the leases of the companies that have not ended. */
export async function countLiveLeases(sql: Sql, companyIds: readonly string[]): Promise<number> {
  const [row] = await sql<[{ live: number }]>`
    select count(*)::int as live from lessor.environment_leases
    where company_id = any(${companyIds}) and status in ('pending', 'active', 'retained', 'pending_cleanup')`;
  return row.live;
}

/** Audits the invariants and the outcome of each run. */
export async function readReport(
  sql: Sql,
  runs: readonly DemoRun[],
  backend: DemoReport['backend'],
  seconds: number,
): Promise<DemoReport> {
  const companyIds = [...new Set(runs.map((run) => run.companyId))];
  const [leases] = await sql<[DemoReport['leases']]>`
    select count(*)::int as acquired,
      count(*) filter (where status = 'released')::int as released,
      count(*) filter (where status = 'failed')::int as failed,
      count(*) filter (where status = 'expired')::int as expired,
      count(*) filter (where status in ('pending', 'active'))::int as live
    from lessor.environment_leases where company_id = any(${companyIds})`;
  const [activity] = await sql<[DemoReport['activity']]>`
    select count(*) filter (where action = 'environment.lease_acquired')::int as acquired,
      count(*) filter (where action in
        ('environment.lease_released', 'environment.lease_failed', 'environment.lease_expired'))::int as ended
    from lessor.activity_log where company_id = any(${companyIds})`;
  const violations = [...(await audit(sql, { companyIds })), ...(await unexpectedOutcomes(sql, runs))];
  return { backend, companies: companyIds.length, runs: runs.length, leases, activity, violations, seconds };
}

/** Runs whose outcome is not the expected one. */
async function unexpectedOutcomes(sql: Sql, runs: readonly DemoRun[]): Promise<Violation[]> {
  const violations: Violation[] = [];
  for (const run of runs) {
    const [found] = await sql<[{ run: string | null; leases: string[] }]>`
      select (select status from lessor.heartbeat_runs where id = ${run.runId}) as run,
        array(select status from lessor.environment_leases where heartbeat_run_id = ${run.runId}) as leases`;
    const leases = run.expected.lease === null ? [] : [run.expected.lease];
    if (found.run === run.expected.run && found.leases.join() === leases.join()) continue;
    const detail = `the run that ${run.title} is ${found.run} with leases [${found.leases.join()}]`;
    violations.push({ invariant: 'as-expected', detail: `${detail}, not ${run.expected.run} with [${leases.join()}]` });
  }
  return violations;
}

/** The leases of the runs, in the order of their acquisition. */
export async function leaseTable(sql: Sql, runs: readonly DemoRun[]): Promise<string> {
  const titles = new Map(runs.map((run) => [run.runId, run.title]));
  const leases = await sql<
    { run: string; environment: string; token: string; status: string; reason: string | null }[]
  >`
    select lease.heartbeat_run_id as run, environment.name as environment, lease.fencing_token as token, lease.status,
      lease.failure_reason as reason
    from lessor.environment_leases lease join lessor.environments environment on environment.id = lease.environment_id
    where lease.heartbeat_run_id = any(${[...titles.keys()]}) order by lease.fencing_token`;
  const table = new Table({ head: ['a run that …', 'environment', 'token', 'lease', 'reason'], style: PLAIN });
  for (const lease of leases) {
    const reason = (lease.reason ?? '').split('\n')[0]!.slice(0, 60);
    table.push([titles.get(lease.run) ?? lease.run, lease.environment, lease.token, lease.status, reason]);
  }
  return table.toString();
}

/** The activity events of one run. */
export async function activityTable(sql: Sql, run: DemoRun): Promise<string> {
  const events = await sql<{ at: Date; action: string; actor: string }[]>`
    select created_at as at, action, actor_id as actor from lessor.activity_log where run_id = ${run.runId} order by id`;
  const table = new Table({ head: ['at', 'action', 'actor'], style: PLAIN });
  for (const event of events) table.push([event.at.toISOString(), event.action, event.actor]);
  return table.toString();
}

const PLAIN = { head: [], border: [], compact: true };
