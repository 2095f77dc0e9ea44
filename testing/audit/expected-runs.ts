import type { Sql, TransactionSql } from 'postgres';
import type { TerminalRunStatus } from '../../src/contracts/index.ts';

/** What the tables must say of a run once the database is quiescent. */
export interface Expectation {
  /** Whether it must have been granted a lease, must not, or may: an end can arrive before the start. */
  lease: 'one' | 'none' | 'either';
  /** Its status must be one of these: of contradictory ends, the one that arrives first wins. */
  statuses: readonly (TerminalRunStatus | 'running')[];
  /** Whether the rejection of its lease must be recorded. */
  rejected: boolean;
}

/** A run and its expectation. */
export interface ExpectedRun {
  companyId: string;
  runId: string;
  expected: Expectation;
}

/** How a run differs from its expectation. */
export interface Deviation {
  /** `lost`: a message had no effect. `duplicated`: it had its effect twice. `unexpected`: it had another one. */
  kind: 'lost' | 'duplicated' | 'unexpected';
  runId: string;
  detail: string;
}

const RUNS_PER_QUERY = 1_000;

/** Compares runs with their expectations (no-loss, first-end-wins, one-lease). */
export async function* findDeviations(
  sql: Sql | TransactionSql,
  runs: Iterable<ExpectedRun>,
): AsyncGenerator<Deviation> {
  let page: object[] = [];
  for (const { runId, companyId, expected } of runs) {
    page.push({ runId, companyId, ...expected });
    if (page.length < RUNS_PER_QUERY) continue;
    yield* await readDeviations(sql, page);
    page = [];
  }
  yield* await readDeviations(sql, page);
}

async function readDeviations(sql: Sql | TransactionSql, expectations: readonly object[]): Promise<Deviation[]> {
  return sql<Deviation[]>`
    with expected as (
      select * from jsonb_to_recordset(${JSON.stringify(expectations)}::text::jsonb) as expected (
        "runId" uuid, "companyId" uuid, lease text, statuses text[], rejected boolean)
    ), granted as (
      select heartbeat_run_id as run_id, count(*) as leases from lessor.environment_leases
      where heartbeat_run_id in (select "runId" from expected) group by heartbeat_run_id
    ), rejection as (
      select run_id, count(*) as rejections from lessor.activity_log
      where action = 'environment.lease_denied' and run_id in (select "runId" from expected) group by run_id
    ), found as (
      select expected.*, run.status, run.company_id, coalesce(leases, 0) as leases, coalesce(rejections, 0) as rejections
      from expected
      left join lessor.heartbeat_runs run on run.id = "runId"
      left join granted on granted.run_id = "runId"
      left join rejection on rejection.run_id = "runId"
    )
    select deviation.kind, "runId", deviation.detail from found cross join lateral (values
      ('lost', status is null, 'it is not recorded'),
      ('lost', status = 'running' and not 'running' = any(statuses), 'it has not ended'),
      ('lost', lease = 'one' and leases = 0, 'it was granted no lease'),
      ('lost', rejected and rejections = 0, 'the rejection of its lease is not recorded'),
      ('duplicated', leases > 1, format('it was granted %s leases', leases)),
      ('duplicated', rejections > 1, format('the rejection of its lease is recorded %s times', rejections)),
      ('unexpected', company_id <> "companyId", format('it belongs to company %s', company_id)),
      ('unexpected', status <> 'running' and not status = any(statuses), format('it is %s', status)),
      ('unexpected', lease = 'none' and leases > 0, 'it was granted a lease'),
      ('unexpected', not rejected and rejections > 0, 'its lease was rejected')
    ) as deviation (kind, holds, detail)
    where deviation.holds`;
}
