import type { Sql } from 'postgres';
import type { LeaseRelease, LeaseReleaseResult } from '../../src/contracts/index.ts';
import type { RunFinished, RunFinishedResult, RunHeartbeat, RunHeartbeatResult } from '../../src/contracts/index.ts';
import type { RunStarted, RunStartedResult } from '../../src/contracts/index.ts';
import { OPERATION_PATHS } from '../../src/environments/operation-paths.ts';
import type { Operation, OperationOutcome, OperationSettings } from '../../src/environments/operations.ts';
import type { WorkerPool } from '../../src/db/worker-pool.ts';
import type { Outcome } from '../../src/environments/outcome.ts';

export const start = (payload: RunStarted): Operation => ({ kind: 'start', payload });
export const renew = (payload: RunHeartbeat): Operation => ({ kind: 'renew', payload });
export const finish = (payload: RunFinished): Operation => ({ kind: 'finish', payload });
export const release = (payload: LeaseRelease): Operation => ({ kind: 'release', payload });

/** Settings of a worker that leases environments of any driver. */
export const OPERATION_SETTINGS: OperationSettings = {
  actor: { type: 'system', id: 'test-worker' },
  companyRegistration: 'auto',
  defaultTtlSeconds: 300,
  leaseWaitMs: 300_000,
  leasable: { enabled: true, drivers: new Set(['ssh', 'sandbox']) },
};

/** What came of an operation, and in which of its batch's transactions: they have numbers in their order. */
export interface CarriedOut {
  outcome: OperationOutcome;
  part: number;
}

/** Carries out operations as a worker does, which gives each of its transactions what those before have left. */
export async function applyAsWorker(
  pool: WorkerPool,
  operations: readonly Operation[],
  settings: OperationSettings,
): Promise<CarriedOut[]> {
  const carriedOut = new Map<Operation, CarriedOut>();
  for (const [part, path] of OPERATION_PATHS.entries()) {
    const left = operations.filter((operation) => path.takes(operation) && !carriedOut.has(operation));
    if (left.length === 0) continue;
    const outcomes = await path.apply(pool, left, settings);
    left.forEach((operation, position) => {
      const outcome = outcomes[position];
      if (outcome !== undefined) carriedOut.set(operation, { outcome, part });
    });
  }
  return operations.map((operation) => carriedOut.get(operation)!);
}

/** Carries out operations as the worker does, batch by batch. */
export function operationsOn(database: { readonly pool: WorkerPool }) {
  const applyInParts = (operations: readonly Operation[], settings: Partial<OperationSettings> = {}) =>
    applyAsWorker(database.pool, operations, { ...OPERATION_SETTINGS, ...settings });

  const apply = async (...given: Parameters<typeof applyInParts>): Promise<OperationOutcome[]> =>
    (await applyInParts(...given)).map(({ outcome }) => outcome);

  const applyOne = async (operation: Operation, settings: Partial<OperationSettings> = {}) => {
    const [outcome] = await apply([operation], settings);
    return outcome!;
  };

  return {
    apply,
    /** Says of each outcome of which part it is. */
    applyInParts,
    start: (payload: RunStarted, settings: Partial<OperationSettings> = {}) =>
      applyOne(start(payload), settings) as Promise<Outcome<RunStartedResult>>,
    renew: (payload: RunHeartbeat, settings: Partial<OperationSettings> = {}) =>
      applyOne(renew(payload), settings) as Promise<Outcome<RunHeartbeatResult>>,
    finish: (payload: RunFinished, settings: Partial<OperationSettings> = {}) =>
      applyOne(finish(payload), settings) as Promise<Outcome<RunFinishedResult>>,
    release: (payload: LeaseRelease, settings: Partial<OperationSettings> = {}) =>
      applyOne(release(payload), settings) as Promise<Outcome<LeaseReleaseResult>>,
    /** Starts a run that must be granted a lease, and returns it. */
    async granted(payload: RunStarted) {
      return leaseOf(await applyOne(start(payload)));
    },
  };
}

/** The lease that a start came out with. */
export function leaseOf(outcome: OperationOutcome) {
  const result = outcome.kind === 'done' ? outcome.result : undefined;
  if (result && 'fencingToken' in result) return result;
  throw new Error(`no lease was granted: ${JSON.stringify(outcome)}`);
}

/** A lease as its row has it. */
export interface LeaseState {
  status: string;
  cleanup_status: string | null;
  failure_reason: string | null;
  released_at: Date | null;
  expires_at: Date;
  provider_lease_id: string | null;
  acquiring_until: Date | null;
  ending_status: string | null;
  metadata: Record<string, unknown> | null;
}

export async function readLease(sql: Sql, leaseId: string): Promise<LeaseState> {
  const [lease] = await sql<[LeaseState]>`
    select status, cleanup_status, failure_reason, released_at, expires_at, provider_lease_id, acquiring_until,
      ending_status, metadata
    from lessor.environment_leases where id = ${leaseId}`;
  return lease;
}

/** What was told of a company, oldest first, without the prefix `environment.`. */
export async function toldOf(sql: Sql, companyId: string): Promise<string[]> {
  const events = await sql<{ action: string }[]>`
    select action from lessor.activity_log where company_id = ${companyId} order by id`;
  return events.map(({ action }) => action.replace('environment.', ''));
}
