import type { Sql } from 'postgres';
import { audit } from '../demo/audit.ts';
import type { Violation } from '../demo/audit.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import { findDeviations } from './audit-plans.ts';
import { count } from './count.ts';
import type { Counts } from './count.ts';
import { findFailedJobs } from './failed-jobs.ts';
import type { RunPlan } from './plan.ts';
import type { Workload } from './workload.ts';

/** What the soak found in Postgres and in the queues once everything was at rest. */
export interface Findings extends Omit<Counts, 'misended'> {
  /** Runs of which all was published. */
  published: number;
  /** Published runs whose effect is missing. */
  lost: number;
  /** Jobs that failed though nothing was wrong with them. */
  failedJobs: number;
  violations: Violation[];
}

/** Where the findings are read from. */
export interface Evidence {
  sql: Sql;
  queues: readonly LessorQueue[];
  plans: Iterable<RunPlan>;
  workload: Workload;
}

/** Of what is wrong so often, the rest says no more. */
const KEPT_VIOLATIONS = 100;

/** Reads back what the runs left behind, and judges it. */
export async function readFindings({ sql, queues, plans, workload }: Evidence): Promise<Findings> {
  const { misended, ...counts } = await count(sql);
  const violations = await audit(sql);
  if (misended > 0) {
    violations.push({ invariant: 'as-planned', detail: `${misended} leases ended otherwise than their run` });
  }
  for (const detail of workload.surprises) violations.push({ invariant: 'as-planned', detail });

  const deviations = { lost: 0, doubled: 0, unplanned: 0 };
  for await (const { kind, runId, detail } of findDeviations(sql, plans, startedPlans(workload))) {
    deviations[kind] += 1;
    const invariant = { lost: 'no-loss', doubled: 'one-lease', unplanned: 'as-planned' }[kind];
    if (violations.length < KEPT_VIOLATIONS) violations.push({ invariant, detail: `run ${runId}: ${detail}` });
  }
  let failedJobs = 0;
  for await (const detail of findFailedJobs(queues)) {
    failedJobs += 1;
    if (violations.length < KEPT_VIOLATIONS) violations.push({ invariant: 'isolated', detail });
  }
  return {
    ...counts,
    published: workload.published,
    lost: deviations.lost,
    doubled: counts.doubled + deviations.doubled,
    failedJobs,
    violations: violations.slice(0, KEPT_VIOLATIONS),
  };
}

/** Whether all of a plan was published: plans are taken in their order, and those under way are known. */
function startedPlans(workload: Workload): (plan: RunPlan) => boolean {
  let left = workload.published + workload.unfinished.size;
  return ({ runId }) => {
    left -= 1;
    return left >= 0 && !workload.unfinished.has(runId);
  };
}

/** Whether nothing was lost, leaked, doubled, suppressed or unexplained, and nothing failed. */
export function isSound({ lost, leaked, doubled, suppressed, unexplained, failedJobs, violations }: Findings): boolean {
  return lost + leaked + doubled + suppressed + unexplained + failedJobs + violations.length === 0;
}
