import type { GrantedLease, RunStarted, RunStartedResult } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import { acquireLeases } from '../db/statements/acquire-leases.ts';
import type { NewLease } from '../db/statements/acquire-leases.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endLeasesAsTold } from '../db/statements/end-leases.ts';
import { preparePendingLeases, touchPendingLeases } from '../db/statements/pending-leases.ts';
import type { RetainedLease } from '../db/statements/read-placements.ts';
import { recordWaits } from '../db/statements/workspace-waits.ts';
import type { UnservedRun } from '../db/statements/workspace-waits.ts';
import { ACQUISITION_LIMITS } from './acquisition-limits.ts';
import { done } from './outcome.ts';
import type { Outcome } from './outcome.ts';
import { endSuperseded } from './placement.ts';
import type { Placing } from './placement.ts';

/** What is to be done about one start, decided from what was read under the companies' locks. */
export type StartDecision =
  | { kind: 'settled'; outcome: Outcome<RunStartedResult> }
  | Extract<Placing, { kind: 'acquire' }>
  /** A driver is to acquire it. */
  | { kind: 'prepare'; lease: NewLease; takesOver: RetainedLease | null }
  /** A driver was to acquire it, and has not done so yet. */
  | { kind: 'resume'; lease: GrantedLease }
  | (Extract<Placing, { kind: 'wait' }> & { start: RunStarted; environmentId: string });

/** Does what was decided, all of it with one set of statements. Outcomes are in the order given. */
export async function carryOutStarts(
  tx: Transaction,
  decisions: readonly StartDecision[],
  actor: Actor,
): Promise<Outcome<RunStartedResult>[]> {
  const superseded = decisions.flatMap((decision) => ('superseded' in decision ? (decision.superseded ?? []) : []));
  await endSuperseded(tx, superseded, actor);
  const acquiring = decisions.filter((decision) => decision.kind === 'acquire');
  const granted = await acquireLeases(
    tx,
    acquiring.map((decision) => decision.lease),
    actor,
  );
  const leases = new Map(granted.map((lease) => [lease.runId, lease]));
  const pending = await preparePending(tx, decisions, actor);
  const waits = await recordWaits(tx, unservedRuns(decisions));
  return decisions.map((decision): Outcome<RunStartedResult> => {
    if (decision.kind === 'settled') return decision.outcome;
    if (decision.kind === 'acquire') return done(leases.get(decision.lease.runId!)!);
    if (decision.kind === 'prepare') return { kind: 'acquiring', lease: pending.get(decision.lease.runId!)! };
    if (decision.kind === 'resume') return { kind: 'acquiring', lease: decision.lease };
    return { kind: 'waiting', heldBy: decision.heldBy, since: waits.get(decision.start.runId)! };
  });
}

/** The leases that drivers are to acquire, by run. */
async function preparePending(
  tx: Transaction,
  decisions: readonly StartDecision[],
  actor: Actor,
): Promise<Map<string, GrantedLease>> {
  const resuming = decisions.filter((decision) => decision.kind === 'resume');
  if (resuming.length > 0) {
    const leaseIds = resuming.map(({ lease }) => lease.id);
    await touchPendingLeases(tx, leaseIds, ACQUISITION_LIMITS);
  }
  const preparing = decisions.filter((decision) => decision.kind === 'prepare');
  if (preparing.length === 0) return new Map();
  const takenOver = await takeOver(
    tx,
    preparing.flatMap(({ takesOver }) => takesOver ?? []),
    actor,
  );
  const leases = preparing.map(({ lease, takesOver }) => ({
    ...lease,
    providerLeaseId: takesOver !== null && takenOver.has(takesOver.leaseId) ? takesOver.providerLeaseId : undefined,
  }));
  const prepared = await preparePendingLeases(tx, leases, ACQUISITION_LIMITS);
  return new Map(prepared.map((lease) => [lease.runId, lease]));
}

/**
 * Ends retained leases whose place goes to another run, so that nobody cleans up after them, and returns which they
 * were: a sweep can have ended one at the last moment, whose place is then no longer there to be had.
 */
async function takeOver(tx: Transaction, retained: readonly RetainedLease[], actor: Actor): Promise<Set<string>> {
  const ended = await endLeasesAsTold(
    tx,
    retained.map(({ leaseId }) => ({
      leaseId,
      fromStatus: 'retained',
      status: 'released',
      failureReason: null,
      cleanupStatus: 'success',
    })),
    actor,
  );
  return new Set(ended.map(({ id }) => id));
}

function unservedRuns(decisions: readonly StartDecision[]): UnservedRun[] {
  const waiting = decisions.filter((decision) => decision.kind === 'wait');
  return waiting.map(({ start: { companyId, runId }, environmentId, heldBy: { executionWorkspaceId } }) => ({
    companyId,
    runId,
    environmentId,
    executionWorkspaceId,
  }));
}
