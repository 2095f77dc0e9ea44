import type { CompanyStatus, GrantedLease, Rejection, RunStarted, RunStartedResult } from '../../contracts/index.ts';
import type { Transaction } from '../../db/connection.ts';
import { acquireLeases } from '../../db/statements/acquire-leases.ts';
import type { NewLease } from '../../db/statements/acquire-leases.ts';
import { recordRejections } from '../../db/statements/activity.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { ensureLocalEnvironments } from '../../db/statements/companies.ts';
import { preparePendingLeases, touchPendingLeases } from '../../db/statements/driver-leases.ts';
import { endLeases } from '../../db/statements/end-leases.ts';
import { hasExternalEffects } from '../../db/statements/external-effects.ts';
import { forgetWaits, readPlacements, recordWaits } from '../../db/statements/placements.ts';
import type { FoundPlacement, RetainedLease, UnservedRun } from '../../db/statements/placements.ts';
import { readRuns, recordStartedRuns } from '../../db/statements/runs.ts';
import type { RecordedRun } from '../../db/statements/runs.ts';
import { ACQUISITION_LIMITS } from '../drivers/driver.ts';
import { done, rejectionOfCompany, rejectionOfRun } from './operation.ts';
import type { LeasableEnvironments, Outcome } from './operation.ts';
import {
  endSuperseded,
  placeLease,
  rejectionOfDriver,
  rejectionOfEnvironment,
  rejectionOfWait,
  selectEnvironment,
} from './placement.ts';
import type { Placement } from './placement.ts';

/** What starts depend on besides their payloads. */
export interface StartContext {
  actor: Actor;
  companies: ReadonlyMap<string, CompanyStatus>;
  defaultTtlSeconds: number;
  /** How long a run waits for its execution workspace before it is rejected. */
  leaseWaitMs: number;
  leasable: LeasableEnvironments;
}

/** What earlier starts of the same set were granted. */
interface Taken {
  /** Workspaces, with the run that each went to. */
  workspaces: Map<string, string | null>;
  /** Retained leases that were adopted. */
  retained: Set<string>;
}

/**
 * Grants a lease to each run that has started, with one set of statements for all of them. Where a driver has to acquire the
 * lease, it is pending, and the outcome says so. The companies' locks must be held. Each run may be given once. Outcomes
 * are in the order given.
 */
export async function startRuns(
  tx: Transaction,
  starts: readonly RunStarted[],
  context: StartContext,
): Promise<Outcome<RunStartedResult>[]> {
  const served = starts.filter((start) => rejectionOfCompany(context.companies, start.companyId) === undefined);
  await recordStartedRuns(tx, served);
  await ensureLocalEnvironments(tx, companiesWantingLocal(served), context.actor);
  const runs = await readRuns(
    tx,
    starts.map((start) => start.runId),
  );
  const placements = await readPlacements(
    tx,
    starts.map((start) => ({ ...start, environmentId: selectEnvironment(start).environmentId })),
  );

  const taken: Taken = { workspaces: new Map(), retained: new Set() };
  const decisions = starts.map((start, position) =>
    decide(start, runs.get(start.runId), placements[position]!, taken, context),
  );
  const outcomes = await applyDecisions(tx, decisions, context.actor);
  await recordRejectedRuns(tx, starts, outcomes, context.actor);
  await forgetSettledWaits(tx, starts, placements, decisions);
  return outcomes;
}

function companiesWantingLocal(starts: readonly RunStarted[]): string[] {
  const wanting = starts.filter((start) => selectEnvironment(start).environmentId === undefined);
  return [...new Set(wanting.map((start) => start.companyId))];
}

function decide(
  start: RunStarted,
  run: RecordedRun | undefined,
  found: FoundPlacement,
  taken: Taken,
  context: StartContext,
): StartDecision {
  const rejection =
    rejectionOfCompany(context.companies, start.companyId) ??
    rejectionOfRun(run, start) ??
    // The lease that the run has is returned even where a new one would be rejected (one-lease).
    (found.lease === null ? rejectionOfNewLease(start, found, context.leasable) : undefined);
  if (rejection !== undefined) return { kind: 'settled', outcome: { kind: 'rejected', rejection } };
  if (found.lease !== null) return decideByLease(found.lease, run!);
  if (run!.status !== 'running') return { kind: 'settled', outcome: done(null) };
  const environment = found.environment!;
  const lease = leaseFor(start, found, context.defaultTtlSeconds);
  const placement = placeLease(lease, found, taken.workspaces);
  if (placement.kind === 'wait') {
    const { heldBy, superseded } = placement;
    const tooLong = rejectionOfWait(heldBy, found.wait, context.leaseWaitMs);
    if (tooLong !== undefined) return { kind: 'settled', outcome: { kind: 'rejected', rejection: tooLong } };
    return { kind: 'wait', heldBy, superseded, start, environmentId: environment.id };
  }
  if (!hasExternalEffects(environment.driver)) return placement;
  return { kind: 'prepare', lease, adopts: takeRetained(found, taken) };
}

/** An existing lease is the result of the start. A pending one, whose job may have died, is resumed. */
function decideByLease(lease: GrantedLease, run: RecordedRun): StartDecision {
  const isRunning = run.status === 'running';
  if (lease.status === 'pending' && isRunning) return { kind: 'resume', lease };
  const isCleanedUpAfterRun = lease.status === 'pending' || lease.status === 'pending_cleanup';
  return { kind: 'settled', outcome: done(isCleanedUpAfterRun && !isRunning ? null : lease) };
}

function takeRetained({ retained }: FoundPlacement, taken: Taken): FoundPlacement['retained'] {
  if (retained === null || taken.retained.has(retained.leaseId)) return null;
  taken.retained.add(retained.leaseId);
  return retained;
}

function rejectionOfNewLease(
  start: RunStarted,
  { environment }: FoundPlacement,
  leasable: LeasableEnvironments,
): Rejection | undefined {
  const { environmentId } = selectEnvironment(start);
  return (
    rejectionOfEnvironment(environment, start.companyId, environmentId) ?? rejectionOfDriver(environment, leasable)
  );
}

function leaseFor(start: RunStarted, found: FoundPlacement, defaultTtlSeconds: number): NewLease {
  return {
    companyId: start.companyId,
    environmentId: found.environment!.id,
    runId: start.runId,
    executionWorkspaceId: found.executionWorkspaceId ?? undefined,
    issueId: start.issueId,
    leasePolicy: start.leasePolicy ?? 'ephemeral',
    ttlSeconds: start.ttlSeconds ?? defaultTtlSeconds,
    metadata: { ...start.metadata, environmentSelection: selectEnvironment(start).decidedBy },
  };
}

/** A run that waited and is settled without a lease no longer waits. A granted lease deletes its run's wait. */
async function forgetSettledWaits(
  tx: Transaction,
  starts: readonly RunStarted[],
  placements: readonly FoundPlacement[],
  decisions: readonly StartDecision[],
): Promise<void> {
  const settled = starts.filter(
    (_start, position) => placements[position]!.wait !== null && decisions[position]!.kind === 'settled',
  );
  await forgetWaits(
    tx,
    settled.map((start) => start.runId),
  );
}

async function recordRejectedRuns(
  tx: Transaction,
  starts: readonly RunStarted[],
  outcomes: readonly Outcome<RunStartedResult>[],
  actor: Actor,
): Promise<void> {
  const rejections = starts.flatMap((start, position) => {
    const outcome = outcomes[position]!;
    if (outcome.kind !== 'rejected') return [];
    const { companyId, runId, agentId } = start;
    const { environmentId } = selectEnvironment(start);
    return [{ companyId, runId, agentId, environmentId, rejection: outcome.rejection }];
  });
  if (rejections.length > 0) await recordRejections(tx, rejections, actor);
}

/** What to do about one start, decided from what was read under the companies' locks. */
export type StartDecision =
  | { kind: 'settled'; outcome: Outcome<RunStartedResult> }
  | Extract<Placement, { kind: 'acquire' }>
  /** A driver is to acquire the lease. */
  | { kind: 'prepare'; lease: NewLease; adopts: RetainedLease | null }
  /** A driver was to acquire the lease, and has not done so yet. */
  | { kind: 'resume'; lease: GrantedLease }
  | (Extract<Placement, { kind: 'wait' }> & { start: RunStarted; environmentId: string });

/** Writes what was decided, with one set of statements. Outcomes are in the order given. */
export async function applyDecisions(
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

/** The pending leases by run, those to be resumed touched. */
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
  const adopted = await adopt(
    tx,
    preparing.flatMap(({ adopts }) => adopts ?? []),
    actor,
  );
  const leases = preparing.map(({ lease, adopts }) => ({
    ...lease,
    providerLeaseId: adopts !== null && adopted.has(adopts.leaseId) ? adopts.providerLeaseId : undefined,
  }));
  const prepared = await preparePendingLeases(tx, leases, ACQUISITION_LIMITS);
  return new Map(prepared.map((lease) => [lease.runId, lease]));
}

/**
 * Ends retained leases whose external resources another run adopts, so that nobody cleans up after them, and returns which
 * they were: a sweep may have ended one in the meantime, and then there is nothing to adopt.
 */
async function adopt(tx: Transaction, retained: readonly RetainedLease[], actor: Actor): Promise<Set<string>> {
  const ended = await endLeases(
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
