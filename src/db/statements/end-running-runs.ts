import { sql } from 'drizzle-orm';
import type { LeaseStatus, TerminalRunStatus } from '../../contracts/index.ts';
import { precompile } from '../precompiled-statement.ts';
import type { PrecompiledStatement } from '../precompiled-statement.ts';
import { ACTOR_PLACEHOLDERS } from './activity.ts';
import type { Actor } from './activity.ts';
import { endedLeaseValues, endedLeaseColumns, endingByRun, isLive, nextStatus, recordEnded } from './ended-leases.ts';
import { isLocked } from './lock-companies.ts';
import { column, arrayLiteral } from './parameters.ts';
import type { EndedRun } from './record-runs.ts';

/** A row of what {@link endRunningRuns} returns: a run that has ended, or a lease that ended with it. */
export type RunEndRow =
  | { runId: string; runStatus: TerminalRunStatus; leaseId: null; leaseStatus: null }
  | { runId: string; runStatus: null; leaseId: string; leaseStatus: LeaseStatus };

/**
 * Does for the usual end what `recordEndedRuns` and `endLeasesOfRuns` do for any: ends a run that is running, and its
 * leases with it, in one statement (always-audited, always-explained). A run that has ended already (first-end-wins), that
 * was never heard of, is another company's, or whose company's lock is not held, is left alone: its row is missing in what
 * is returned. Each run id may be given once.
 */
export function endRunningRuns(runs: readonly EndedRun[], actor: Actor): PrecompiledStatement {
  return bind({
    companyId: arrayLiteral(runs.map((run) => run.companyId)),
    runId: arrayLiteral(runs.map((run) => run.runId)),
    status: arrayLiteral(runs.map((run) => run.status)),
    failureReason: arrayLiteral(runs.map((run) => run.failureReason)),
    finishedAt: arrayLiteral(runs.map((run) => run.finishedAt)),
    actorType: actor.type,
    actorId: actor.id,
  });
}

const bind = precompile(sql`
    with run as (
      update lessor.heartbeat_runs run set
        status = ended.status,
        failure_reason = ended.failure_reason,
        finished_at = ended.finished_at,
        updated_at = now()
      from unnest(
        ${column('uuid', 'companyId')},
        ${column('uuid', 'runId')},
        ${column('text', 'status')},
        ${column('text', 'failureReason')},
        ${column('timestamptz', 'finishedAt')}
      ) as ended (company_id, run_id, status, failure_reason, finished_at)
      where run.id = run_id and run.company_id = ended.company_id and run.status in ('queued', 'running')
        and ${isLocked(sql`ended.company_id`)}
      returning run.id, run.status, run.failure_reason, run.agent_id
    ), lease as (
      update lessor.environment_leases lease set ${endedLeaseColumns} = (${endedLeaseValues}
        from (select *, ${nextStatus} as next_status from (select ${endingByRun}) wanted) ending)
      from run
      where lease.heartbeat_run_id = run.id and ${isLive}
      returning lease.*, null as from_status, run.agent_id, run.status as run_status
    ), told as (${recordEnded(ACTOR_PLACEHOLDERS, sql`lease, lateral (select agent_id, run_status as status) run`)}
    )
    select id as "runId", status as "runStatus", null::uuid as "leaseId", null as "leaseStatus" from run
    union all
    (select heartbeat_run_id, null, id, status from lease order by fencing_token)`);
