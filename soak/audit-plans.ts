import type { Sql, TransactionSql } from 'postgres';
import type { RunPlan } from './plan.ts';

/** A run of which something is missing or too much, against its plan. */
export interface Deviation {
  /** `lost`: what was published had no effect. `doubled`: it had it twice. `unplanned`: it had another one. */
  kind: 'lost' | 'doubled' | 'unplanned';
  runId: string;
  detail: string;
}

const PLANS_PER_QUERY = 1_000;

/**
 * Compares what became of runs with their plans (no-loss, first-end-wins, one-lease).
 *
 * @param wasPublished whether all of a run is known to have been published: of others nothing can be said to be lost
 */
export async function* findDeviations(
  sql: Sql | TransactionSql,
  plans: Iterable<RunPlan>,
  wasPublished: (plan: RunPlan) => boolean,
): AsyncGenerator<Deviation> {
  let page: object[] = [];
  for (const plan of plans) {
    if (wasPublished(plan)) page.push({ runId: plan.runId, companyId: plan.companyId, ...plan.expected });
    if (page.length < PLANS_PER_QUERY) continue;
    yield* await readDeviations(sql, page);
    page = [];
  }
  yield* await readDeviations(sql, page);
}

async function readDeviations(sql: Sql | TransactionSql, expectations: readonly object[]): Promise<Deviation[]> {
  return sql<Deviation[]>`
    with planned as (
      select * from jsonb_to_recordset(${JSON.stringify(expectations)}::text::jsonb) as planned (
        "runId" uuid, "companyId" uuid, lease text, statuses text[], denied boolean)
    ), granted as (
      select heartbeat_run_id as run_id, count(*) as leases from lessor.environment_leases
      where heartbeat_run_id in (select "runId" from planned) group by heartbeat_run_id
    ), denied as (
      select run_id, count(*) as rejections from lessor.activity_log
      where action = 'environment.lease_denied' and run_id in (select "runId" from planned) group by run_id
    ), found as (
      select planned.*, run.status, run.company_id, coalesce(leases, 0) as leases, coalesce(rejections, 0) as rejections
      from planned
      left join lessor.heartbeat_runs run on run.id = "runId"
      left join granted on granted.run_id = "runId"
      left join denied on denied.run_id = "runId"
    )
    select deviation.kind, "runId", deviation.detail from found cross join lateral (values
      ('lost', status is null, 'it is not in the ledger'),
      ('lost', status = 'running' and not 'running' = any(statuses), 'it has not ended'),
      ('lost', lease = 'one' and leases = 0, 'it was granted no lease'),
      ('lost', denied and rejections = 0, 'nobody was told that it was denied a lease'),
      ('doubled', leases > 1, format('it was granted %s leases', leases)),
      ('doubled', rejections > 1, format('it was told %s times that it was denied a lease', rejections)),
      ('unplanned', company_id <> "companyId", format('it belongs to company %s', company_id)),
      ('unplanned', status <> 'running' and not status = any(statuses), format('it is %s', status)),
      ('unplanned', lease = 'none' and leases > 0, 'it was granted a lease'),
      ('unplanned', not denied and rejections > 0, 'it was denied a lease')
    ) as deviation (kind, holds, detail)
    where deviation.holds`;
}
