import type { CompanyStatus } from '../../contracts/index.ts';
import type { Transaction } from '../../db/connection.ts';
import { lockCompanies } from '../../db/statements/companies.ts';
import type { WorkerPool } from '../../db/worker-pool.ts';
import { beginAcquiring, completeAcquisitions, failAcquisitions } from './acquisition.ts';
import { cleanUpLeases, failCleanups, finishCleanups } from './cleanup.ts';
import { finishRuns, renewRuns } from './end-and-renew.ts';
import { applyFastPath, needsProvisioning } from './fast-path.ts';
import type { ProvisionedCompanies } from './fast-path.ts';
import { subjectOf } from './operation.ts';
import type { Operation, OperationOutcome, OperationSettings, OutcomeOf } from './operation.ts';
import { startRuns } from './start-runs.ts';

/** Where operations are applied. */
export type OperationPool = Pick<WorkerPool, 'pipeline' | 'transaction'>;

/** What {@link applyBatch} may be given by a worker, which applies one batch after another. */
export interface BatchContext {
  /**
   * Kept from batch to batch: a start of another company that falls through is provisioned apart from the batch. Without it,
   * the fast path ensures that the companies of all starts are registered and have a `Local`.
   */
  provisioned?: ProvisionedCompanies | undefined;
  /** Applies what falls through the fast path; by default what is to be provisioned first, and the rest in one transaction. */
  generalPath?: ((operations: readonly Operation[]) => Promise<OperationOutcome>[]) | undefined;
}

/**
 * Applies a batch of operations: as many as possible in one pipelined transaction (the fast path), and what falls through
 * in a transaction of its own (the general path), which reads, decides and writes statement by statement.
 *
 * Resolves once the fast path has committed, so that its operations need not wait for the others: in the order given,
 * the outcome of each operation on the fast path, and a promise of the outcome of each that fell through. Rejects when the
 * fast path failed: then nothing was applied.
 *
 * @throws {Error} when two operations have the same {@link subjectOf subject}: set-based statements take each once
 */
export async function applyBatch(
  pool: OperationPool,
  operations: readonly Operation[],
  settings: OperationSettings,
  {
    provisioned,
    generalPath = (rest) => settledWith(rest, provisionAndApply(pool, rest, settings, provisioned)),
  }: BatchContext = {},
): Promise<(OperationOutcome | Promise<OperationOutcome>)[]> {
  assertDistinctSubjects(operations);
  const outcomes = await applyFastPath(pool, operations, settings, {
    provisioned,
    provision: provisioned === undefined,
  });
  const rest = operations.filter((_operation, position) => outcomes[position] === undefined);
  const pending = rest.length === 0 ? [] : generalPath(rest);
  let next = 0;
  return outcomes.map((outcome) => outcome ?? pending[next++]!);
}

function assertDistinctSubjects(operations: readonly Operation[]): void {
  const subjects = new Set<string>();
  for (const operation of operations) {
    const subject = subjectOf(operation);
    if (subjects.has(subject)) throw new Error(`a batch holds each subject once, and this one holds ${subject} twice`);
    subjects.add(subject);
  }
}

/** Provisions the companies of starts that need it, and applies what then still falls through. */
async function provisionAndApply(
  pool: OperationPool,
  operations: readonly Operation[],
  settings: OperationSettings,
  provisioned: ProvisionedCompanies | undefined,
): Promise<OperationOutcome[]> {
  const only = (operation: Operation) => provisioned !== undefined && needsProvisioning(operation, provisioned);
  const started = await applyFastPath(pool, operations, settings, { provisioned, only });
  const rest = operations.filter((_operation, position) => started[position] === undefined);
  const applied = rest.length === 0 ? [] : await applyGeneralPath(pool, rest, settings);
  let next = 0;
  return started.map((outcome) => outcome ?? applied[next++]!);
}

/** A promise for each operation of what is settled together. */
function settledWith(
  operations: readonly Operation[],
  settling: Promise<readonly OperationOutcome[]>,
): Promise<OperationOutcome>[] {
  return operations.map(async (_operation, position) => (await settling)[position]!);
}

/**
 * Applies any operations in one transaction, statement by statement. Outcomes are in the order given.
 *
 * Companies are locked first; then all starts, all renewals, all ends and all releases are applied as sets, each with
 * what drivers report. Any order among them is correct (any-order); this is the order of a run's life.
 */
export async function applyGeneralPath(
  pool: Pick<OperationPool, 'transaction'>,
  operations: readonly Operation[],
  settings: OperationSettings,
): Promise<OperationOutcome[]> {
  return pool.transaction(async (tx) => {
    const companyIds = [...new Set(operations.map((operation) => operation.payload.companyId))];
    const companies = await lockCompanies(tx, companyIds, settings.companyRegistration);
    return applyByKind(tx, operations, settings, companies);
  });
}

async function applyByKind(
  tx: Transaction,
  operations: readonly Operation[],
  settings: OperationSettings,
  companies: ReadonlyMap<string, CompanyStatus>,
): Promise<OperationOutcome[]> {
  const { actor } = settings;
  const outcomes = new Map<Operation, OperationOutcome>();
  const applyKind = async <Kind extends Operation['kind']>(
    kind: Kind,
    apply: (payloads: PayloadOf<Kind>[]) => Promise<OutcomeOf<Kind>[]>,
  ): Promise<void> => {
    const ofKind = operations.filter((operation) => operation.kind === kind);
    if (ofKind.length === 0) return;
    const results = await apply(ofKind.map((operation) => operation.payload as PayloadOf<Kind>));
    ofKind.forEach((operation, position) => outcomes.set(operation, results[position]!));
  };
  await applyKind('start', (starts) => startRuns(tx, starts, { ...settings, companies }));
  await applyKind('begin-acquiring', (begun) => beginAcquiring(tx, begun));
  await applyKind('acquired', (acquired) => completeAcquisitions(tx, acquired, actor));
  await applyKind('not-acquired', (failures) => failAcquisitions(tx, failures, actor));
  await applyKind('renew', (renewals) => renewRuns(tx, renewals, companies, actor));
  await applyKind('finish', (finishes) => finishRuns(tx, finishes, companies, actor));
  await applyKind('release', (releases) => cleanUpLeases(tx, releases, companies, actor));
  await applyKind('cleaned-up', (releases) => finishCleanups(tx, releases, actor));
  await applyKind('not-cleaned-up', (failures) => failCleanups(tx, failures, actor));
  return operations.map((operation) => outcomes.get(operation)!);
}

type PayloadOf<Kind extends Operation['kind']> = Extract<Operation, { kind: Kind }>['payload'];
