import type { Sql } from 'postgres';
import { findDeviations } from '../testing/audit/expected-runs.ts';
import { audit } from '../testing/audit/invariants.ts';
import { tally } from '../testing/audit/tally.ts';
import { onDatabase } from '../testing/stores/databases.ts';
import type { Run } from './workload.ts';

/** Options of {@link auditRuns}. */
export interface AuditOptions {
  /** Whether the database holds these runs and no others. Default true: then the invariants and all rows are audited. */
  exclusive?: boolean;
  /** Whether the runs were finished too. Default true. */
  ended?: boolean;
  /** Invariants that are not audited. */
  notPromised?: readonly string[];
}

const KEPT_VIOLATIONS = 20;

/** Audits the rows of runs that were started, and finished, exactly once each. Returns what is wrong. */
export async function auditRuns(
  databaseUrl: string,
  runs: readonly Run[],
  { exclusive = true, ended = true, notPromised = [] }: AuditOptions = {},
): Promise<string[]> {
  return onDatabase(databaseUrl, async (sql) => {
    const violations = [...(await deviations(sql, runs, ended)), ...(await inconsistentRows(sql, runs, ended))];
    if (exclusive)
      violations.push(...(await violatedInvariants(sql, notPromised)), ...(await miscounts(sql, runs, ended)));
    return violations.slice(0, KEPT_VIOLATIONS);
  });
}

async function deviations(sql: Sql, runs: readonly Run[], ended: boolean): Promise<string[]> {
  const status = ended ? 'succeeded' : 'running';
  const expected = { lease: 'one', statuses: [status], rejected: false } as const;
  const found = [];
  for await (const { kind, runId, detail } of findDeviations(
    sql,
    runs.map((run) => ({ ...run, expected })),
  )) {
    found.push(`${kind}: run ${runId}: ${detail}`);
  }
  return found;
}

/** Runs whose context does not name their lease, whose lease has the wrong status, or whose events are not exactly one each. */
async function inconsistentRows(sql: Sql, runs: readonly Run[], ended: boolean): Promise<string[]> {
  const released = ended ? 1 : 0;
  const rows = await sql<{ detail: string }[]>`
    with planned as (select unnest(${runs.map((run) => run.runId)}::uuid[]) as id),
    recorded as (
      select run_id,
        count(*) filter (where action = 'environment.lease_acquired') as acquired,
        count(*) filter (where action = 'environment.lease_released') as released,
        count(*) as events
      from lessor.activity_log where run_id in (select id from planned) group by run_id
    )
    select format('run %s: lease %s is %s, its context names %s; acquired %s, released %s of %s events',
      run.id, lease.id, lease.status, run.context_snapshot->'paperclipEnvironment'->>'leaseId',
      recorded.acquired, recorded.released, recorded.events) as detail
    from planned
    join lessor.heartbeat_runs run using (id)
    left join lessor.environment_leases lease on lease.heartbeat_run_id = run.id
    left join recorded on recorded.run_id = run.id
    where lease.status is distinct from ${ended ? 'released' : 'active'}
      or run.context_snapshot->'paperclipEnvironment'->>'leaseId' is distinct from lease.id::text
      or (recorded.acquired, recorded.released, recorded.events)
        is distinct from (1::bigint, ${released}::bigint, ${1 + released}::bigint)`;
  return rows.map((row) => row.detail);
}

async function violatedInvariants(sql: Sql, notPromised: readonly string[]): Promise<string[]> {
  const violations = await audit(sql);
  return violations
    .filter(({ invariant }) => !notPromised.includes(invariant))
    .map(({ invariant, detail }) => `${invariant}: ${detail}`);
}

/** Rows that the runs do not account for, and transitions without exactly one event. */
async function miscounts(sql: Sql, runs: readonly Run[], ended: boolean): Promise<string[]> {
  const { leases, leaked, duplicated, unrecorded, unexplained, mismatched } = await tally(sql);
  const [rows] = await sql<[{ runs: number; environments: number; events: number }]>`
    select (select count(*)::int from lessor.heartbeat_runs) as runs,
      (select count(*)::int from lessor.environments) as environments,
      (select count(*)::int from lessor.activity_log) as events`;
  const companies = new Set(runs.map((run) => run.companyId)).size;
  const events = (ended ? 2 : 1) * runs.length + companies;
  const expected = { leases: runs.length, runs: runs.length, environments: companies, events };
  const found = { leases, runs: rows.runs, environments: rows.environments, events: rows.events };
  const faults = { leaked: ended ? leaked : 0, duplicated, unrecorded, unexplained, mismatched };
  return [
    ...Object.entries(expected).flatMap(([what, count]) => {
      const actual = found[what as keyof typeof found];
      return actual === count ? [] : [`there are ${actual} ${what} instead of ${count}`];
    }),
    ...Object.entries(faults).flatMap(([what, count]) => (count === 0 ? [] : [`${count} ${what}`])),
  ];
}
