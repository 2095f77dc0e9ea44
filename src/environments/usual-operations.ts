import type { RunFinishedResult, RunHeartbeatResult, RunStartedResult } from '../contracts/index.ts';
import type { PrecompiledStatement } from '../db/precompiled-statement.ts';
import { ensureLocalsOfLocked } from '../db/statements/ensure-local-environments.ts';
import { lockKnownCompanies, registerCompanies } from '../db/statements/lock-companies.ts';
import type { WorkerPool } from '../db/worker-pool.ts';
import { subjectOf } from './operations.ts';
import type { Operation, OperationOutcome, OperationSettings } from './operations.ts';
import { done } from './outcome.ts';
import { usualEnds } from './usual-ends.ts';
import { usualRenewals } from './usual-renewals.ts';
import { usualStarts } from './usual-starts.ts';

/** How the usual operations of one kind are carried out with one statement, which decides by itself which they are. */
export interface UsualKind<Payload, Result> {
  /** Whether it may be a usual one, by what it asks for. */
  isUsual(payload: Payload): boolean;
  /** Each run may be given once. */
  prepare(
    payloads: readonly Payload[],
    settings: OperationSettings,
  ): {
    statement: PrecompiledStatement;
    /** From the statement's rows, the result for each run that was not left alone. */
    results: (rows: readonly unknown[]) => Iterable<readonly [runId: string, result: Result]>;
  };
}

/** In the order of a run's life. Each is given only payloads of its own kind. */
const KINDS: ReadonlyMap<Operation['kind'], UsualKind<never, ResultOfUsual>> = new Map<
  Operation['kind'],
  UsualKind<never, ResultOfUsual>
>([
  ['start', usualStarts],
  ['renew', usualRenewals],
  ['finish', usualEnds],
]);

type ResultOfUsual = RunStartedResult | RunHeartbeatResult | RunFinishedResult;

/** Whether an operation can be a usual one, by what it asks for: whether it is depends on what is there. */
export function canBeUsual({ kind, payload }: Operation): boolean {
  return KINDS.get(kind)?.isUsual(payload as never) ?? false;
}

/**
 * Carries out, in one transaction that is sent in one go, those operations that are as most are: new runs that start on
 * their company's `Local`, the heartbeats of those that hold a lease, and the ends of those that run. Nothing waits on a
 * network while the companies' locks are held.
 *
 * @returns outcomes in the order given, undefined for every operation that was left alone: those are for
 * {@link applyFirstStarts} if they are starts, and for `applyOperations`
 */
export async function applyUsualOperations(
  pool: Pick<WorkerPool, 'pipeline'>,
  operations: readonly Operation[],
  settings: OperationSettings,
): Promise<(OperationOutcome | undefined)[]> {
  return applyPipelined(pool, operations, settings, (companyIds) => [lockKnownCompanies(companyIds)]);
}

/**
 * The same for starts that may be the first of their company, which is registered, if it is to be, and given its `Local`.
 */
export async function applyFirstStarts(
  pool: Pick<WorkerPool, 'pipeline'>,
  starts: readonly Operation[],
  settings: OperationSettings,
): Promise<(OperationOutcome | undefined)[]> {
  return applyPipelined(pool, starts, settings, (companyIds) => [
    ...(settings.companyRegistration === 'auto' ? [registerCompanies(companyIds)] : []),
    lockKnownCompanies(companyIds),
    ensureLocalsOfLocked(settings.actor),
  ]);
}

/** @param prepare what is to be done about the operations' companies before */
async function applyPipelined(
  pool: Pick<WorkerPool, 'pipeline'>,
  operations: readonly Operation[],
  settings: OperationSettings,
  prepare: (companyIds: readonly string[]) => PrecompiledStatement[],
): Promise<(OperationOutcome | undefined)[]> {
  const candidates = operationsBySubject(operations.filter(canBeUsual));
  if (candidates.size === 0) return operations.map(() => undefined);
  const steps = [...KINDS].flatMap(([kind, usual]) => {
    const those = [...candidates.values()].filter((operation) => operation.kind === kind);
    const payloads = those.map(({ payload }) => payload as never);
    return payloads.length === 0 ? [] : [{ kind, ...usual.prepare(payloads, settings) }];
  });
  const companyIds = new Set([...candidates.values()].map(({ payload }) => payload.companyId));
  const preparation = prepare([...companyIds]);
  const rows = await pool.pipeline([...preparation, ...steps.map(({ statement }) => statement)]);
  const outcomes = new Map<Operation, OperationOutcome>();
  steps.forEach(({ kind, results }, position) => {
    for (const [runId, result] of results(rows[preparation.length + position]!)) {
      outcomes.set(candidates.get(`${kind} ${runId}`)!, done(result));
    }
  });
  return operations.map((operation) => outcomes.get(operation));
}

/** The first operation of each subject: a set-based statement takes each run once. */
function operationsBySubject(operations: readonly Operation[]): Map<string, Operation> {
  const first = new Map<string, Operation>();
  for (const operation of operations) {
    const subject = subjectOf(operation);
    if (!first.has(subject)) first.set(subject, operation);
  }
  return first;
}
