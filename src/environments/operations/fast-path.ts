import type {
  GrantedLease,
  RunFinished,
  RunFinishedResult,
  RunHeartbeat,
  RunHeartbeatResult,
  RunStarted,
  RunStartedResult,
} from '../../contracts/index.ts';
import type { PrecompiledStatement } from '../../db/pipeline.ts';
import { ensureLocalsOfLocked, lockKnownCompanies, registerCompanies } from '../../db/statements/companies.ts';
import { endRunningRuns, grantNewRuns, renewSingleLeases } from '../../db/statements/fast-path.ts';
import type { NewLeaseRow, NewRun, RenewedLease, RunEndRow } from '../../db/statements/fast-path.ts';
import type { WorkerPool } from '../../db/worker-pool.ts';
import { done } from './operation.ts';
import type { Operation, OperationOutcome, OperationSettings } from './operation.ts';
import { selectEnvironment } from './placement.ts';

/**
 * The fast path: most operations start a new run on its company's `Local`, renew the only lease of a run, or end a run
 * that is running. Each of these kinds takes one set-based statement, and no statement depends on the rows of another, so
 * all of them travel in one pipelined transaction: nothing waits for the network while the companies' locks are held.
 *
 * The statements decide by what they find. An operation that is not of that form, or whose company is not locked, is
 * unchanged and falls through to the general path, which is correct for any operation.
 *
 * Registering a company waits for whoever registers it elsewhere, for as long as that transaction is open. So a worker first
 * tries every start without, and those that {@link needsProvisioning need it} again in a pipeline of their own, where no
 * other company waits with them.
 *
 * @param provision whether companies of starts are registered and given their `Local`, unless they are known to have both
 * @param only which of the operations; by default all
 * @returns outcomes in the order given, undefined for each operation that falls through
 */
export async function applyFastPath(
  pool: Pick<WorkerPool, 'pipeline'>,
  operations: readonly Operation[],
  settings: OperationSettings,
  { provisioned, provision = true, only = () => true }: FastPathOptions = {},
): Promise<(OperationOutcome | undefined)[]> {
  const isIncluded = (operation: Operation) => isFastPathEligible(operation) && only(operation);
  const eligible = operations.filter(isIncluded);
  if (eligible.length === 0) return operations.map(() => undefined);
  const preparation = prepareCompanies(eligible, settings, provision ? (provisioned ?? NONE_PROVISIONED) : undefined);
  const steps = [...KINDS].flatMap(([kind, fastPath]) => {
    const payloads = eligible.filter((operation) => operation.kind === kind).map(({ payload }) => payload as never);
    return payloads.length === 0 ? [] : [{ kind, ...fastPath.prepare(payloads, settings) }];
  });
  const rows = await pool.pipeline([...preparation, ...steps.map(({ statement }) => statement)]);
  const results = new Map(
    steps.map(({ kind, resultsOf }, position) => [kind, new Map(resultsOf(rows[preparation.length + position]!))]),
  );
  return operations.map((operation) => {
    if (!isIncluded(operation)) return undefined;
    const { companyId, runId } = operation.payload as { companyId: string; runId: string };
    const result = results.get(operation.kind)!.get(runId);
    if (result === undefined) return undefined;
    if (operation.kind === 'start') provisioned?.add(companyId);
    return done(result);
  });
}

interface FastPathOptions {
  provisioned?: ProvisionedCompanies | undefined;
  provision?: boolean;
  only?: (operation: Operation) => boolean;
}

/** Whether an operation that fell through is a start whose company may lack its registration or its `Local`. */
export function needsProvisioning(operation: Operation, provisioned: ProvisionedCompanies): boolean {
  return operation.kind === 'start' && isFastPathEligible(operation) && !provisioned.has(operation.payload.companyId);
}

/** Whether an operation can be on the fast path, by what it asks for: whether it is depends on what is stored. */
function isFastPathEligible({ kind, payload }: Operation): boolean {
  return KINDS.get(kind)?.isEligible(payload as never) ?? false;
}

const NONE_PROVISIONED: Pick<ProvisionedCompanies, 'has'> = { has: () => false };

/**
 * Locks the companies. Where `provisioned` is given, those of starts that are not in it are registered and given their
 * `Local` in the same transaction. All registrations come before any lock, so that two workers cannot deadlock.
 */
function prepareCompanies(
  operations: readonly Operation[],
  { actor, companyRegistration }: OperationSettings,
  provisioned: Pick<ProvisionedCompanies, 'has'> | undefined,
): PrecompiledStatement[] {
  const companyIds = new Set<string>();
  const unprovisioned = new Set<string>();
  for (const { kind, payload } of operations) {
    companyIds.add(payload.companyId);
    if (kind === 'start' && provisioned?.has(payload.companyId) === false) unprovisioned.add(payload.companyId);
  }
  const lock = lockKnownCompanies([...companyIds]);
  if (unprovisioned.size === 0) return [lock];
  const ensureLocals = ensureLocalsOfLocked([...unprovisioned], actor);
  if (companyRegistration === 'known') return [lock, ensureLocals];
  return [registerCompanies([...unprovisioned]), lock, ensureLocals];
}

/**
 * Companies that were seen to be registered and to have a `Local`, so that a start of theirs that falls through is for the
 * general path. Only an optimization: that path is correct for any.
 */
export class ProvisionedCompanies {
  readonly #ids = new Set<string>();
  readonly #maxSize: number;

  /** @param maxSize the oldest entry is forgotten beyond it; 10,000 ids take about a megabyte */
  constructor(maxSize = 10_000) {
    this.#maxSize = maxSize;
  }

  has(companyId: string): boolean {
    return this.#ids.has(companyId);
  }

  add(companyId: string): void {
    this.#ids.add(companyId);
    if (this.#ids.size <= this.#maxSize) return;
    const [oldest] = this.#ids;
    this.#ids.delete(oldest!);
  }
}

type FastPathResult = RunStartedResult | RunHeartbeatResult | RunFinishedResult;

/** How the operations of one kind are applied with one statement. */
interface FastPathKind<Payload, Result> {
  isEligible(payload: Payload): boolean;
  prepare(
    payloads: readonly Payload[],
    settings: OperationSettings,
  ): {
    statement: PrecompiledStatement;
    /** From the statement's rows, the result of each run that does not fall through. */
    resultsOf: (rows: readonly unknown[]) => Iterable<readonly [runId: string, result: Result]>;
  };
}

/** New runs that want their company's `Local` and no execution workspace. */
const starts: FastPathKind<RunStarted, RunStartedResult> = {
  isEligible: (start) =>
    start.executionWorkspaceId === undefined && selectEnvironment(start).environmentId === undefined,

  prepare(payloads, { actor, defaultTtlSeconds }) {
    const runs = new Map(payloads.map((start) => [start.runId, newRun(start, defaultTtlSeconds)]));
    return {
      statement: grantNewRuns([...runs.values()], { environmentSelection: selectEnvironment({}).decidedBy }, actor),
      resultsOf: (rows) =>
        (rows as NewLeaseRow[]).map((row) => [row.runId, grantedLease(row, runs.get(row.runId)!)] as const),
    };
  },
};

/** Heartbeats of runs that hold the only lease they ever had. */
const renewals: FastPathKind<RunHeartbeat, RunHeartbeatResult> = {
  isEligible: () => true,

  prepare: (heartbeats) => ({
    statement: renewSingleLeases(heartbeats),
    resultsOf: (rows) =>
      (rows as RenewedLease[]).map(
        ({ runId, id, expiresAt }) => [runId, { runId, leases: [{ id, status: 'active', expiresAt }] }] as const,
      ),
  }),
};

/** Ends of runs that are running. */
const ends: FastPathKind<RunFinished, RunFinishedResult> = {
  isEligible: () => true,

  prepare: (finishes, { actor }) => ({
    statement: endRunningRuns(finishes, actor),
    resultsOf(rows) {
      const results = new Map<string, RunFinishedResult>();
      for (const { runId, runStatus, leaseId, leaseStatus } of rows as RunEndRow[]) {
        if (leaseId === null) results.set(runId, { runId, status: runStatus, leases: [] });
        else results.get(runId)!.leases.push({ id: leaseId, status: leaseStatus });
      }
      return results;
    },
  }),
};

/** In the order of a run's life. Each is given only payloads of its own kind. */
const KINDS: ReadonlyMap<Operation['kind'], FastPathKind<never, FastPathResult>> = new Map<
  Operation['kind'],
  FastPathKind<never, FastPathResult>
>([
  ['start', starts],
  ['renew', renewals],
  ['finish', ends],
]);

function newRun(start: RunStarted, defaultTtlSeconds: number): NewRun {
  return {
    ...start,
    leasePolicy: start.leasePolicy ?? 'ephemeral',
    ttlSeconds: start.ttlSeconds ?? defaultTtlSeconds,
  };
}

function grantedLease(row: NewLeaseRow, run: NewRun): GrantedLease {
  return {
    id: row.id,
    companyId: run.companyId,
    runId: run.runId,
    status: 'active',
    leasePolicy: run.leasePolicy,
    executionWorkspaceId: null,
    fencingToken: row.fencingToken,
    ttlSeconds: run.ttlSeconds,
    acquiredAt: row.acquiredAt,
    expiresAt: row.expiresAt,
    failureReason: null,
    environment: { id: row.environmentId, name: row.name, driver: row.driver, leaseId: row.id },
    config: row.config,
    providerLeaseId: null,
  };
}
