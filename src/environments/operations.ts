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
import { beginAcquiring, completeAcquisitions, failAcquisitions } from './acquire-leases-by-driver.ts';
import type { BegunAcquisition, CompletedAcquisition, FailedAcquisition } from './acquire-leases-by-driver.ts';
import { cleanUpLeases, failCleanups, finishCleanups } from './clean-up-leases.ts';
import type { FailedCleanup, LeaseSubject } from './clean-up-leases.ts';
import { finishRuns } from './finish-runs.ts';
import type { Outcome } from './outcome.ts';
import { renewRuns } from './renew-runs.ts';
import type { LeasableEnvironments } from './selection.ts';
import { startRuns } from './start-runs.ts';
import type { StartContext } from './start-runs.ts';

/** One thing to do for one run or lease: what a job asks for, without its queue, or what a driver has come to. */
export type Operation =
  | { kind: 'start'; payload: RunStarted }
  | { kind: 'renew'; payload: RunHeartbeat }
  | { kind: 'finish'; payload: RunFinished }
  | { kind: 'release'; payload: LeaseRelease }
  | { kind: 'begin-acquiring'; payload: BegunAcquisition }
  | { kind: 'acquired'; payload: CompletedAcquisition }
  | { kind: 'not-acquired'; payload: FailedAcquisition }
  | { kind: 'cleaned-up'; payload: LeaseSubject }
  | { kind: 'not-cleaned-up'; payload: FailedCleanup };

/** The outcome of any operation. */
export type OperationOutcome = Outcome<RunStartedResult | RunFinishedResult | RunHeartbeatResult | LeaseReleaseResult>;

/** The outcome of the operations of one kind. */
export type OutcomeOf<Kind extends Operation['kind']> = Outcome<
  Kind extends 'start' | 'begin-acquiring' | 'acquired'
    ? RunStartedResult
    : Kind extends 'renew'
      ? RunHeartbeatResult
      : Kind extends 'finish'
        ? RunFinishedResult
        : LeaseReleaseResult
>;

/** Settings of a worker that decide what operations do. */
export interface OperationSettings {
  actor: Actor;
  companyRegistration: CompanyRegistration;
  defaultTtlSeconds: number;
  /** How long a run waits for its execution workspace before it is refused. */
  leaseWaitMs: number;
  leasable: LeasableEnvironments;
}

/** Where each operation's outcome is put. */
type Outcomes = Map<Operation, OperationOutcome>;

/**
 * Carries out operations in one transaction: companies are locked first, then all starts, all renewals, all finishes
 * and all releases run as sets, each with what drivers have come to. Their order among each other is free (any-order);
 * this one is the order of a run's life.
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
    const subject = subjectOf(operation);
    let round = rounds.find((candidate) => !candidate.subjects.has(subject));
    if (round === undefined) rounds.push((round = { operations: [], subjects: new Set() }));
    round.operations.push(operation);
    round.subjects.add(subject);
  }
  return rounds.map((round) => round.operations);
}

/** What an operation is about, and which: of its like one can be in a set. */
export function subjectOf({ kind, payload }: Operation): string {
  return `${kind} ${'leaseId' in payload ? payload.leaseId : payload.runId}`;
}

async function applyRound(
  tx: Transaction,
  operations: readonly Operation[],
  context: StartContext,
  outcomes: Outcomes,
): Promise<void> {
  const { actor, companies } = context;
  const carryOut = async <Kind extends Operation['kind']>(
    kind: Kind,
    apply: (payloads: PayloadOf<Kind>[]) => Promise<OutcomeOf<Kind>[]>,
  ): Promise<void> => {
    const those = operations.filter((operation) => operation.kind === kind);
    if (those.length === 0) return;
    const results = await apply(those.map((operation) => operation.payload as PayloadOf<Kind>));
    those.forEach((operation, position) => outcomes.set(operation, results[position]!));
  };
  await carryOut('start', (starts) => startRuns(tx, starts, context));
  await carryOut('begin-acquiring', (begun) => beginAcquiring(tx, begun));
  await carryOut('acquired', (acquired) => completeAcquisitions(tx, acquired, actor));
  await carryOut('not-acquired', (failures) => failAcquisitions(tx, failures, actor));
  await carryOut('renew', (renewals) => renewRuns(tx, renewals, companies, actor));
  await carryOut('finish', (finishes) => finishRuns(tx, finishes, companies, actor));
  await carryOut('release', (releases) => cleanUpLeases(tx, releases, companies, actor));
  await carryOut('cleaned-up', (releases) => finishCleanups(tx, releases, actor));
  await carryOut('not-cleaned-up', (failures) => failCleanups(tx, failures, actor));
}

type PayloadOf<Kind extends Operation['kind']> = Extract<Operation, { kind: Kind }>['payload'];
