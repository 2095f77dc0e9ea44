import type { Sql } from 'postgres';
import { audit } from '../demo/audit.ts';
import { findDeviations } from '../soak/audit-plans.ts';
import { count } from '../soak/count.ts';
import { onDatabase } from './stores.ts';
import type { Run } from './workload.ts';

/** Options of {@link auditRuns}. */
export interface AuditOptions {
  /** Whether these runs are all that was ever written. Default true: then every invariant is audited, on all rows. */
  alone?: boolean;
  /** Whether the runs were finished too. Default true. */
  ended?: boolean;
  /** Invariants that are not asked for. */
  notPromised?: readonly string[];
}

const KEPT_VIOLATIONS = 20;

/** What is wrong with the rows of runs that were started, and finished, each exactly once. */
export async function auditRuns(
  databaseUrl: string,
  runs: readonly Run[],
  { alone = true, ended = true, notPromised = [] }: AuditOptions = {},
): Promise<string[]> {
  return onDatabase(databaseUrl, async (sql) => {
    const violations = [...(await deviations(sql, runs, ended)), ...(await misplaced(sql, runs, ended))];
    if (alone) violations.push(...(await broken(sql, notPromised)), ...(await miscounted(sql, runs, ended)));
    return violations.slice(0, KEPT_VIOLATIONS);
  });
}

async function deviations(sql: Sql, runs: readonly Run[], ended: boolean): Promise<string[]> {
  const status = ended ? 'succeeded' : 'running';
  const expected = { lease: 'one', statuses: [status], denied: false } as const;
  const plans = runs.map((run) => ({ ...run, steps: [], expected }));
  const found = [];
  for await (const { kind, runId, detail } of findDeviations(sql, plans, () => true)) {
    found.push(`${kind}: run ${runId}: ${detail}`);
  }
  return found;
}

/** Runs that do not know their lease, that hold it too long, or of which something was told otherwise than once. */
async function misplaced(sql: Sql, runs: readonly Run[], ended: boolean): Promise<string[]> {
  const released = ended ? 1 : 0;
  const rows = await sql<{ detail: string }[]>`
    with planned as (select unnest(${runs.map((run) => run.runId)}::uuid[]) as id),
    told as (
      select run_id,
        count(*) filter (where action = 'environment.lease_acquired') as acquired,
        count(*) filter (where action = 'environment.lease_released') as released,
        count(*) as events
      from lessor.activity_log where run_id in (select id from planned) group by run_id
    )
    select format('run %s: lease %s is %s, its context names %s, told: acquired %s, released %s of %s events',
      run.id, lease.id, lease.status, run.context_snapshot->'paperclipEnvironment'->>'leaseId',
      told.acquired, told.released, told.events) as detail
    from planned
    join lessor.heartbeat_runs run using (id)
    left join lessor.environment_leases lease on lease.heartbeat_run_id = run.id
    left join told on told.run_id = run.id
    where lease.status is distinct from ${ended ? 'released' : 'active'}
      or run.context_snapshot->'paperclipEnvironment'->>'leaseId' is distinct from lease.id::text
      or (told.acquired, told.released, told.events) is distinct from (1::bigint, ${released}::bigint, ${1 + released}::bigint)`;
  return rows.map((row) => row.detail);
}

async function broken(sql: Sql, notPromised: readonly string[]): Promise<string[]> {
  const violations = await audit(sql);
  return violations
    .filter(({ invariant }) => !notPromised.includes(invariant))
    .map(({ invariant, detail }) => `${invariant}: ${detail}`);
}

/** Rows that nobody asked for, and transitions that were told too often or not at all. */
async function miscounted(sql: Sql, runs: readonly Run[], ended: boolean): Promise<string[]> {
  const { leases, leaked, doubled, suppressed, unexplained, misended } = await count(sql);
  const [rows] = await sql<[{ runs: number; environments: number; events: number }]>`
    select (select count(*)::int from lessor.heartbeat_runs) as runs,
      (select count(*)::int from lessor.environments) as environments,
      (select count(*)::int from lessor.activity_log) as events`;
  const companies = new Set(runs.map((run) => run.companyId)).size;
  const events = (ended ? 2 : 1) * runs.length + companies;
  const wanted = { leases: runs.length, runs: runs.length, environments: companies, events };
  const found = { leases, runs: rows.runs, environments: rows.environments, events: rows.events };
  const faults = { leaked: ended ? leaked : 0, doubled, suppressed, unexplained, misended };
  return [
    ...Object.entries(wanted).flatMap(([what, expected]) => {
      const actual = found[what as keyof typeof found];
      return actual === expected ? [] : [`there are ${actual} ${what} instead of ${expected}`];
    }),
    ...Object.entries(faults).flatMap(([what, times]) => (times === 0 ? [] : [`${times} ${what}`])),
  ];
}
