import type { Sql } from 'postgres';
import { parseRejection } from '../src/contracts/index.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import { findDeviations } from '../testing/audit/expected-runs.ts';
import { audit } from '../testing/audit/invariants.ts';
import type { Violation } from '../testing/audit/invariants.ts';
import { tally } from '../testing/audit/tally.ts';
import type { Tally } from '../testing/audit/tally.ts';
import type { RunPlan } from './plan.ts';
import { publishedPlans } from './workload.ts';
import type { Workload } from './workload.ts';

/** The audit of a soak: of Postgres and the queues once they are quiescent. */
export interface Findings extends Omit<Tally, 'mismatched'> {
  /** Runs whose messages were all published. */
  published: number;
  /** Published runs without their effect. */
  lost: number;
  /** Jobs that failed though nothing was wrong with them. */
  failedJobs: number;
  violations: Violation[];
}

/** What the audit reads. */
export interface Evidence {
  sql: Sql;
  queues: readonly LessorQueue[];
  plans: Iterable<RunPlan>;
  workload: Workload;
}

/** A fault that occurs more often than this is clear. */
const KEPT_VIOLATIONS = 100;

const JOBS_PER_PAGE = 500;

/** Audits Postgres and the queues. */
export async function readFindings({ sql, queues, plans, workload }: Evidence): Promise<Findings> {
  const { mismatched, ...counts } = await tally(sql);
  const violations = await audit(sql);
  if (mismatched > 0) {
    violations.push({ invariant: 'as-expected', detail: `${mismatched} leases do not have the status of their run` });
  }
  for (const detail of workload.errors) violations.push({ invariant: 'as-expected', detail });

  const deviations = { lost: 0, duplicated: 0, unexpected: 0 };
  for await (const { kind, runId, detail } of findDeviations(sql, publishedPlans(plans, workload))) {
    deviations[kind] += 1;
    const invariant = { lost: 'no-loss', duplicated: 'one-lease', unexpected: 'as-expected' }[kind];
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
    duplicated: counts.duplicated + deviations.duplicated,
    failedJobs,
    violations: violations.slice(0, KEPT_VIOLATIONS),
  };
}

/** Whether nothing was lost, leaked, duplicated, unrecorded or unexplained, and no sound job failed. */
export function isSound(findings: Findings): boolean {
  const { lost, leaked, duplicated, unrecorded, unexplained, failedJobs, violations } = findings;
  return lost + leaked + duplicated + unrecorded + unexplained + failedJobs + violations.length === 0;
}

/** Failed jobs that no plan expects to fail, each with its reason. */
async function* findFailedJobs(queues: readonly LessorQueue[]): AsyncGenerator<string> {
  for (const queue of queues) {
    for (let start = 0; ; start += JOBS_PER_PAGE) {
      const jobs = await queue.getFailed(start, start + JOBS_PER_PAGE - 1);
      for (const job of jobs) {
        const isExpected =
          queue.name === 'run-started' && parseRejection(job.failedReason)?.code === 'unknown_environment';
        if (!isExpected) yield `${queue.name} job ${job.id}: ${job.failedReason}`;
      }
      if (jobs.length < JOBS_PER_PAGE) break;
    }
  }
}
