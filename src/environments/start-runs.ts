import type { CompanyStatus, Refusal, RunStarted, RunStartedResult } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import { acquireLeases } from '../db/statements/acquire-leases.ts';
import type { NewLease } from '../db/statements/acquire-leases.ts';
import { recordDenials } from '../db/statements/activity.ts';
import type { Actor } from '../db/statements/activity.ts';
import { ensureLocalEnvironments } from '../db/statements/ensure-local-environments.ts';
import { readPlacements } from '../db/statements/read-placements.ts';
import type { FoundPlacement } from '../db/statements/read-placements.ts';
import { readRuns, recordStartedRuns } from '../db/statements/record-runs.ts';
import type { RecordedRun } from '../db/statements/record-runs.ts';
import { forgetWaits, recordWaits } from '../db/statements/workspace-waits.ts';
import type { UnservedRun } from '../db/statements/workspace-waits.ts';
import { done } from './outcome.ts';
import type { HeldBy, Outcome } from './outcome.ts';
import { endSuperseded, place, refusalOfWait } from './placement.ts';
import type { Placing } from './placement.ts';
import { refusalOfCompany, refusalOfRun } from './refusals.ts';
import { namedEnvironment, refusalOfDriver, refusalOfEnvironment } from './selection.ts';

/** What start operations need to know besides their payloads. */
export interface StartContext {
  actor: Actor;
  companies: ReadonlyMap<string, CompanyStatus>;
  defaultTtlSeconds: number;
  /** How long a run waits for its execution workspace before it is refused. */
  leaseWaitMs: number;
}

/** What is to be done about one start, decided from what was read under the companies' locks. */
type Decision =
  | { kind: 'settled'; outcome: Outcome<RunStartedResult> }
  | Extract<Placing, { kind: 'acquire' }>
  | { kind: 'wait'; heldBy: HeldBy; start: RunStarted; environmentId: string };

/**
 * Grants a lease to each run that has started, all of them with one set of statements. The companies' locks must be
 * held. Each run may be given once. Outcomes are in the order given.
 */
export async function startRuns(
  tx: Transaction,
  starts: readonly RunStarted[],
  context: StartContext,
): Promise<Outcome<RunStartedResult>[]> {
  const served = starts.filter((start) => refusalOfCompany(context.companies, start.companyId) === undefined);
  await recordStartedRuns(tx, served);
  await ensureLocalEnvironments(tx, companiesWantingLocal(served), context.actor);
  const runs = await readRuns(
    tx,
    starts.map((start) => start.runId),
  );
  const placements = await readPlacements(
    tx,
    starts.map((start) => ({ ...start, environmentId: namedEnvironment(start) })),
  );

  const taken = new Map<string, string | null>();
  const decisions = starts.map((start, position) =>
    decide(start, runs.get(start.runId), placements[position]!, taken, context),
  );
  const outcomes = await carryOut(tx, decisions, context.actor);
  await tellDenials(tx, starts, outcomes, context.actor);
  await forgetSettled(tx, starts, placements, decisions);
  return outcomes;
}

function companiesWantingLocal(starts: readonly RunStarted[]): string[] {
  const wanting = starts.filter((start) => namedEnvironment(start) === undefined).map((start) => start.companyId);
  return [...new Set(wanting)];
}

function decide(
  start: RunStarted,
  run: RecordedRun | undefined,
  found: FoundPlacement,
  taken: Map<string, string | null>,
  context: StartContext,
): Decision {
  const refusal =
    refusalOfCompany(context.companies, start.companyId) ??
    refusalOfRun(run, start) ??
    // A lease the run has already is returned even where a new one would be refused by now (one-lease).
    (found.lease === null ? refusalOfNewLease(start, found) : undefined);
  if (refusal !== undefined) return { kind: 'settled', outcome: { kind: 'refused', refusal } };
  if (found.lease !== null) return { kind: 'settled', outcome: done(found.lease) };
  if (run!.status !== 'running') return { kind: 'settled', outcome: done(null) };
  const lease = leaseFor(start, found.environment!.id, context.defaultTtlSeconds);
  const placing = place(lease, found, taken);
  if (placing.kind === 'acquire') return placing;
  const tooLong = refusalOfWait(placing.heldBy, found.wait, context.leaseWaitMs);
  if (tooLong !== undefined) return { kind: 'settled', outcome: { kind: 'refused', refusal: tooLong } };
  return { kind: 'wait', heldBy: placing.heldBy, start, environmentId: lease.environmentId };
}

function refusalOfNewLease(start: RunStarted, { environment }: FoundPlacement): Refusal | undefined {
  return refusalOfEnvironment(environment, start.companyId, namedEnvironment(start)) ?? refusalOfDriver(environment);
}

function leaseFor(start: RunStarted, environmentId: string, defaultTtlSeconds: number): NewLease {
  return {
    companyId: start.companyId,
    environmentId,
    runId: start.runId,
    executionWorkspaceId: start.executionWorkspaceId,
    issueId: start.issueId,
    leasePolicy: start.leasePolicy ?? 'ephemeral',
    ttlSeconds: start.ttlSeconds ?? defaultTtlSeconds,
    metadata: start.metadata,
  };
}

async function carryOut(
  tx: Transaction,
  decisions: readonly Decision[],
  actor: Actor,
): Promise<Outcome<RunStartedResult>[]> {
  const acquiring = decisions.filter((decision) => decision.kind === 'acquire');
  const superseded = acquiring.flatMap((decision) => decision.superseded ?? []);
  await endSuperseded(tx, superseded, actor);
  const granted = await acquireLeases(
    tx,
    acquiring.map((decision) => decision.lease),
    actor,
  );
  const leases = new Map(granted.map((lease) => [lease.runId, lease]));
  const waits = await recordWaits(tx, unservedRuns(decisions));
  return decisions.map((decision) => {
    if (decision.kind === 'settled') return decision.outcome;
    if (decision.kind === 'acquire') return done(leases.get(decision.lease.runId!)!);
    return { kind: 'waiting', heldBy: decision.heldBy, since: waits.get(decision.start.runId)! };
  });
}

function unservedRuns(decisions: readonly Decision[]): UnservedRun[] {
  const waiting = decisions.filter((decision) => decision.kind === 'wait');
  return waiting.map(({ start: { companyId, runId }, environmentId, heldBy: { executionWorkspaceId } }) => ({
    companyId,
    runId,
    environmentId,
    executionWorkspaceId,
  }));
}

/** Whoever waited and is granted nothing loses its place; a lease that is granted ends the wait for it by itself. */
async function forgetSettled(
  tx: Transaction,
  starts: readonly RunStarted[],
  placements: readonly FoundPlacement[],
  decisions: readonly Decision[],
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
  const denials = starts.flatMap((start, position) => {
    const outcome = outcomes[position]!;
    if (outcome.kind !== 'refused') return [];
    const { companyId, runId, agentId } = start;
    return [{ companyId, runId, agentId, environmentId: namedEnvironment(start), refusal: outcome.refusal }];
  });
  if (denials.length > 0) await recordDenials(tx, denials, actor);
}
