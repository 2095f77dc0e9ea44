import type { Sql } from 'postgres';
import type { LeaseRelease, LeaseReleaseResult } from '../../src/contracts/index.ts';
import type { RunFinished, RunFinishedResult, RunHeartbeat, RunHeartbeatResult } from '../../src/contracts/index.ts';
import type { RunStarted, RunStartedResult } from '../../src/contracts/index.ts';
import { applyOperations } from '../../src/environments/operations.ts';
import type { Operation, OperationOutcome, OperationSettings } from '../../src/environments/operations.ts';
import type { Outcome } from '../../src/environments/outcome.ts';
import type { TestDatabase } from './database.ts';

export const start = (payload: RunStarted): Operation => ({ kind: 'start', payload });
export const renew = (payload: RunHeartbeat): Operation => ({ kind: 'renew', payload });
export const finish = (payload: RunFinished): Operation => ({ kind: 'finish', payload });
export const release = (payload: LeaseRelease): Operation => ({ kind: 'release', payload });

const SETTINGS: OperationSettings = {
  actor: { type: 'system', id: 'test-worker' },
  companyRegistration: 'first-sight',
  defaultTtlSeconds: 300,
  leaseWaitMs: 300_000,
  leasable: { enabled: true, drivers: new Set(['ssh', 'sandbox']) },
};

/** Carries out operations as the worker does, each batch in a transaction of its own. */
export function operationsOn(database: Pick<TestDatabase, 'db'>) {
  const apply = (
    operations: readonly Operation[],
    settings: Partial<OperationSettings> = {},
  ): Promise<OperationOutcome[]> =>
    database.db.transaction((tx) => applyOperations(tx, operations, { ...SETTINGS, ...settings }));

  const applyOne = async (operation: Operation, settings: Partial<OperationSettings> = {}) => {
    const [outcome] = await apply([operation], settings);
    return outcome!;
  };

  return {
    apply,
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
