import type {
  LeaseRelease,
  LeaseReleaseResult,
  RunFinished,
  RunFinishedResult,
  RunHeartbeat,
  RunHeartbeatResult,
  RunStarted,
  RunStartedResult,
} from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import type { Actor } from '../db/statements/activity.ts';
import { lockCompanies } from '../db/statements/lock-companies.ts';
import type { CompanyRegistration } from '../db/statements/lock-companies.ts';
import { cleanUpLeases } from './clean-up-leases.ts';
import { finishRuns } from './finish-runs.ts';
import type { Outcome } from './outcome.ts';
import { renewRuns } from './renew-runs.ts';
import { startRuns } from './start-runs.ts';
import type { StartContext } from './start-runs.ts';

/** One thing to do for one run or lease: what a job asks for, without its queue. */
export type Operation =
  | { kind: 'start'; payload: RunStarted }
  | { kind: 'renew'; payload: RunHeartbeat }
  | { kind: 'finish'; payload: RunFinished }
  | { kind: 'release'; payload: LeaseRelease };

/** The outcome of any operation. */
export type OperationOutcome = Outcome<RunStartedResult | RunFinishedResult | RunHeartbeatResult | LeaseReleaseResult>;

/** Settings of a worker that decide what operations do. */
export interface OperationSettings {
  actor: Actor;
  companyRegistration: CompanyRegistration;
  defaultTtlSeconds: number;
  /** How long a run waits for its execution workspace before it is refused. */
  leaseWaitMs: number;
}

/** Where each operation's outcome is put. */
type Outcomes = Map<Operation, OperationOutcome>;

/**
 * Carries out operations in one transaction: companies are locked first, then all starts, all renewals, all finishes
 * and all releases run as sets. Their order among each other is free (any-order); this one is the order of a run's
 * life.
 *
 * @returns outcomes in the order given
 */
export async function applyOperations(
  tx: Transaction,
  operations: readonly Operation[],
  settings: OperationSettings,
): Promise<OperationOutcome[]> {
  const companyIds = [...new Set(operations.map((operation) => operation.payload.companyId))];
  const companies = await lockCompanies(tx, companyIds, settings.companyRegistration);
  const outcomes: Outcomes = new Map();
  for (const round of roundsOfDistinctSubjects(operations)) {
    await applyRound(tx, round, { ...settings, companies }, outcomes);
  }
  return operations.map((operation) => outcomes.get(operation)!);
}

/**
 * A set-based statement takes each run or lease once, so what is delivered twice in one batch goes into a round of its
 * own.
 */
function roundsOfDistinctSubjects(operations: readonly Operation[]): Operation[][] {
  const rounds: { operations: Operation[]; subjects: Set<string> }[] = [];
  for (const operation of operations) {
    const subject = `${operation.kind} ${operation.kind === 'release' ? operation.payload.leaseId : operation.payload.runId}`;
    let round = rounds.find((candidate) => !candidate.subjects.has(subject));
    if (round === undefined) rounds.push((round = { operations: [], subjects: new Set() }));
    round.operations.push(operation);
    round.subjects.add(subject);
  }
  return rounds.map((round) => round.operations);
}

async function applyRound(
  tx: Transaction,
  operations: readonly Operation[],
  context: StartContext,
  outcomes: Outcomes,
): Promise<void> {
  const { actor, companies } = context;
  const starts = operations.filter((operation) => operation.kind === 'start');
  if (starts.length > 0) keep(outcomes, starts, await startRuns(tx, payloadsOf(starts), context));
  const renewals = operations.filter((operation) => operation.kind === 'renew');
  if (renewals.length > 0) keep(outcomes, renewals, await renewRuns(tx, payloadsOf(renewals), companies, actor));
  const finishes = operations.filter((operation) => operation.kind === 'finish');
  if (finishes.length > 0) keep(outcomes, finishes, await finishRuns(tx, payloadsOf(finishes), companies, actor));
  const releases = operations.filter((operation) => operation.kind === 'release');
  if (releases.length > 0) keep(outcomes, releases, await cleanUpLeases(tx, payloadsOf(releases), companies, actor));
}

function payloadsOf<Payload>(operations: readonly { payload: Payload }[]): Payload[] {
  return operations.map((operation) => operation.payload);
}

function keep(outcomes: Outcomes, operations: readonly Operation[], results: readonly OperationOutcome[]): void {
  operations.forEach((operation, position) => outcomes.set(operation, results[position]!));
}
