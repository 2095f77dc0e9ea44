import type { CompanyStatus, GrantedLease, Rejection, RunStarted, RunStartedResult } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import type { NewLease } from '../db/statements/acquire-leases.ts';
import { recordRejections } from '../db/statements/activity.ts';
import type { Actor } from '../db/statements/activity.ts';
import { ensureLocalEnvironments } from '../db/statements/ensure-local-environments.ts';
import { readPlacements } from '../db/statements/read-placements.ts';
import type { FoundPlacement } from '../db/statements/read-placements.ts';
import { readRuns, recordStartedRuns } from '../db/statements/record-runs.ts';
import type { RecordedRun } from '../db/statements/record-runs.ts';
import { forgetWaits } from '../db/statements/workspace-waits.ts';
import { carryOutStarts } from './carry-out-starts.ts';
import type { StartDecision } from './carry-out-starts.ts';
import { isWithoutOutsideEffects } from './drivers/outside-effects.ts';
import { done } from './outcome.ts';
import type { Outcome } from './outcome.ts';
import { place, rejectionOfWait } from './placement.ts';
import { rejectionOfCompany, rejectionOfRun } from './rejections.ts';
import { rejectionOfDriver, rejectionOfEnvironment, selectEnvironment } from './selection.ts';
import type { LeasableEnvironments } from './selection.ts';

/** What start operations need to know besides their payloads. */
export interface StartContext {
  actor: Actor;
  companies: ReadonlyMap<string, CompanyStatus>;
  defaultTtlSeconds: number;
  /** How long a run waits for its execution workspace before it is refused. */
  leaseWaitMs: number;
  leasable: LeasableEnvironments;
}

/** What earlier starts of the same set were given. */
interface Taken {
  /** Workspaces, with the run that each went to. */
  workspaces: Map<string, string | null>;
  /** Retained leases that are taken over. */
  retained: Set<string>;
}

/**
 * Grants a lease to each run that has started, all of them with one set of statements. Where a driver has to acquire it,
 * the lease is made pending, and the outcome says so. The companies' locks must be held. Each run may be given once.
 * Outcomes are in the order given.
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
  const outcomes = await carryOutStarts(tx, decisions, context.actor);
  await tellDenials(tx, starts, outcomes, context.actor);
  await forgetSettled(tx, starts, placements, decisions);
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
    // A lease the run has already is returned even where a new one would be refused by now (one-lease).
    (found.lease === null ? rejectionOfNewLease(start, found, context.leasable) : undefined);
  if (rejection !== undefined) return { kind: 'settled', outcome: { kind: 'rejected', rejection } };
  if (found.lease !== null) return decideByLease(found.lease, run!);
  if (run!.status !== 'running') return { kind: 'settled', outcome: done(null) };
  const environment = found.environment!;
  const lease = leaseFor(start, found, context.defaultTtlSeconds);
  const placing = place(lease, found, taken.workspaces);
  if (placing.kind === 'wait') {
    const { heldBy, superseded } = placing;
    const tooLong = rejectionOfWait(heldBy, found.wait, context.leaseWaitMs);
    if (tooLong !== undefined) return { kind: 'settled', outcome: { kind: 'rejected', rejection: tooLong } };
    return { kind: 'wait', heldBy, superseded, start, environmentId: environment.id };
  }
  if (isWithoutOutsideEffects(environment.driver)) return placing;
  return { kind: 'prepare', lease, takesOver: takeRetained(found, taken) };
}

/** What the run has had already is returned; what is still being acquired, by a job that died maybe, is gone on with. */
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

/** Whoever waited and is granted nothing loses its place; a lease that is granted ends the wait for it by itself. */
async function forgetSettled(
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

async function tellDenials(
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
