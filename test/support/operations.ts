import type { Sql } from 'postgres';
import type { LeaseRelease, LeaseReleaseResult } from '../../src/contracts/index.ts';
import type { RunFinished, RunFinishedResult, RunHeartbeat, RunHeartbeatResult } from '../../src/contracts/index.ts';
import type { RunStarted, RunStartedResult } from '../../src/contracts/index.ts';
import type { WorkerPool } from '../../src/db/worker-pool.ts';
import { applyBatch } from '../../src/environments/operations/apply.ts';
import type { BatchContext } from '../../src/environments/operations/apply.ts';
import { subjectOf } from '../../src/environments/operations/operation.ts';
import type {
  Operation,
  OperationOutcome,
  OperationSettings,
  Outcome,
} from '../../src/environments/operations/operation.ts';

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

/** What came of an operation, and in which transaction: they are numbered in their order. */
export interface Applied {
  outcome: OperationOutcome;
  part: number;
}

/** Applies operations as a worker does: a second operation of the same subject goes into the next batch. */
export async function applyInBatches(
  pool: WorkerPool,
  operations: readonly Operation[],
  settings: OperationSettings,
  context: BatchContext = {},
): Promise<Applied[]> {
  const applied = new Map<Operation, Applied>();
  let parts = 0;
  for (const batch of batchesOf(operations)) {
    const outcomes = await applyBatch(pool, batch, settings, context);
    const settled = await Promise.all(outcomes.map(async (outcome) => outcome));
    batch.forEach((operation, position) => {
      const fellThrough = outcomes[position] instanceof Promise;
      applied.set(operation, { outcome: settled[position]!, part: fellThrough ? parts + 1 : parts });
    });
    parts += 2;
  }
  return operations.map((operation) => applied.get(operation)!);
}

/** Operations in as few batches as possible, each of which holds each subject once. */
function batchesOf(operations: readonly Operation[]): Operation[][] {
  const batches: Map<string, Operation>[] = [];
  for (const operation of operations) {
    const subject = subjectOf(operation);
    let batch = batches.find((candidate) => !candidate.has(subject));
    if (batch === undefined) batches.push((batch = new Map()));
    batch.set(subject, operation);
  }
  return batches.map((batch) => [...batch.values()]);
}

/** Applies operations as a worker does, in batches. */
export function operationsOn(database: { readonly pool: WorkerPool }) {
  const applyInParts = (operations: readonly Operation[], settings: Partial<OperationSettings> = {}) =>
    applyInBatches(database.pool, operations, { ...OPERATION_SETTINGS, ...settings });

  const apply = async (...given: Parameters<typeof applyInParts>): Promise<OperationOutcome[]> =>
    (await applyInParts(...given)).map(({ outcome }) => outcome);

  const applyOne = async (operation: Operation, settings: Partial<OperationSettings> = {}) => {
    const [outcome] = await apply([operation], settings);
    return outcome!;
  };

  return {
    apply,
    /** Each outcome with the number of its transaction. */
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

/** The activity events of a company, oldest first, without the prefix `environment.`. */
export async function eventsOf(sql: Sql, companyId: string): Promise<string[]> {
  const events = await sql<{ action: string }[]>`
    select action from lessor.activity_log where company_id = ${companyId} order by id`;
  return events.map(({ action }) => action.replace('environment.', ''));
}
