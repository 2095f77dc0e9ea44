import { isTerminal } from '../../contracts/index.ts';
import type { GrantedLease, LeaseReleaseResult, RunStartedResult } from '../../contracts/index.ts';
import type { Transaction } from '../../db/connection.ts';
import { activateLeases, readGrantedLeases, recordSupersededAcquisitions } from '../../db/statements/acquire-leases.ts';
import { recordRejections } from '../../db/statements/activity.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { beginAcquisitions, recordFailedAcquisitions } from '../../db/statements/driver-leases.ts';
import { endLeases } from '../../db/statements/end-leases.ts';
import { readRuns } from '../../db/statements/runs.ts';
import { ACQUISITION_LIMITS } from '../drivers/driver.ts';
import { done } from './operation.ts';
import type { BegunAcquisition, CompletedAcquisition, FailedAcquisition, Outcome } from './operation.ts';

/** Records that drivers begin to acquire leases. A lease that is no longer pending is not to be acquired. */
export async function beginAcquiring(
  tx: Transaction,
  begun: readonly BegunAcquisition[],
): Promise<Outcome<RunStartedResult>[]> {
  const leaseIds = begun.map(({ leaseId }) => leaseId);
  const pending = await beginAcquisitions(tx, leaseIds, ACQUISITION_LIMITS);
  const results = await readResults(tx, leaseIds);
  return leaseIds.map((leaseId, position) => {
    const result = results[position]!;
    return pending.has(leaseId) && result !== null ? { kind: 'acquiring', lease: result } : done(result);
  });
}

/**
 * Makes leases active that their drivers have acquired. The cleanup of one that ended meanwhile may begin now (no-leak).
 * Outcomes are in the order given: each run's lease, or null where the run has ended.
 */
export async function completeAcquisitions(
  tx: Transaction,
  acquired: readonly CompletedAcquisition[],
  actor: Actor,
): Promise<Outcome<RunStartedResult>[]> {
  const leaseIds = acquired.map(({ leaseId }) => leaseId);
  await activateLeases(tx, acquired, actor);
  await recordSupersededAcquisitions(tx, leaseIds);
  const results = await readResults(tx, leaseIds);
  return results.map(done);
}

/** Records why acquisitions failed, and ends leases without a further attempt (always-explained). */
export async function failAcquisitions(
  tx: Transaction,
  failures: readonly FailedAcquisition[],
  actor: Actor,
): Promise<Outcome<LeaseReleaseResult>[]> {
  await recordFailedAcquisitions(tx, failures);
  const leases = await readGrantedLeases(
    tx,
    failures.map(({ leaseId }) => leaseId),
  );
  const final = failures.filter(({ leaseId, isFinal }) => isFinal && leases.get(leaseId)!.status === 'pending');
  const ended = await endLeases(
    tx,
    final.map(({ leaseId, reason }) => ({
      leaseId,
      fromStatus: 'pending',
      status: 'failed',
      failureReason: `acquisition failed: ${reason}`,
      cleanupStatus: 'pending',
    })),
    actor,
  );
  await recordRejectedRuns(tx, final, leases, actor);
  const statuses = new Map(ended.map(({ id, status }) => [id, status]));
  return failures.map(({ leaseId }) => done({ leaseId, status: statuses.get(leaseId) ?? leases.get(leaseId)!.status }));
}

/** Each lease as the result of its run's start: null where the run has ended. */
async function readResults(tx: Transaction, leaseIds: readonly string[]): Promise<RunStartedResult[]> {
  const leases = await readGrantedLeases(tx, leaseIds);
  const runs = await readRuns(
    tx,
    [...leases.values()].map((lease) => lease.runId),
  );
  return leaseIds.map((leaseId) => {
    const lease = leases.get(leaseId)!;
    const run = runs.get(lease.runId);
    return run !== undefined && isTerminal(run.status) ? null : lease;
  });
}

async function recordRejectedRuns(
  tx: Transaction,
  failures: readonly FailedAcquisition[],
  leases: ReadonlyMap<string, GrantedLease>,
  actor: Actor,
): Promise<void> {
  const rejections = failures.flatMap(({ companyId, leaseId, rejection }) => {
    const { runId, environment } = leases.get(leaseId)!;
    return rejection === undefined ? [] : { companyId, runId, environmentId: environment.id, rejection };
  });
  if (rejections.length > 0) await recordRejections(tx, rejections, actor);
}
