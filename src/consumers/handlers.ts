import { z } from 'zod';
import {
  idSchema,
  leaseReleaseSchema,
  runFinishedSchema,
  runHeartbeatSchema,
  runStartedSchema,
} from '../contracts/index.ts';
import type {
  EnvironmentFailedError,
  GrantedLease,
  LeaseRelease,
  Rejection,
  RejectionCode,
} from '../contracts/index.ts';
import type { Operation, OperationOutcome, OutcomeOf } from '../environments/operations/operation.ts';
import type { OperationQueueName } from '../queues/job-options.ts';
import type { DriverCalls } from './driver-calls.ts';

/** What handlers work with. They know no BullMQ: tests call them with the same dependencies as the worker does. */
export interface HandlerDependencies {
  /** Commits an operation, in one transaction with others that wait. */
  submit: <Submitted extends Operation>(operation: Submitted) => Promise<OutcomeOf<Submitted['kind']>>;
  /** Records `environment.lease_denied` for a run, where its company is known. */
  recordRejection: (run: { companyId: string; runId: string }, rejection: Rejection) => Promise<void>;
  drivers: Pick<DriverCalls, 'withPermit' | 'acquire' | 'release'>;
  /** Publishes jobs that clean up after leases. Does not reject: the sweep publishes what could not be published. */
  requestReleases: (releases: readonly LeaseRelease[]) => Promise<void>;
}

/** Which attempt at a job this is. */
export interface Attempt {
  /** From 1. */
  number: number;
  /** Whether the job stays in the failed set if this one fails. */
  isLast: boolean;
}

/** How the jobs of one queue are handled. */
export interface Handler<Schema extends z.ZodType = z.ZodType> {
  queue: OperationQueueName;
  schema: Schema;
  handle(dependencies: HandlerDependencies, payload: z.output<Schema>, attempt: Attempt): Promise<OperationOutcome>;
  /** Called for a job that was rejected before any operation could record it; its data can be anything. */
  onRejected?(dependencies: HandlerDependencies, data: unknown, rejection: Rejection): Promise<void>;
}

const runReferenceSchema = z.object({ companyId: idSchema, runId: idSchema });

/** A run started: its environment is ensured and leased to it. */
export const runStartedHandler: Handler<typeof runStartedSchema> = {
  queue: 'run-started',
  schema: runStartedSchema,
  async handle(dependencies, payload, attempt) {
    const outcome = await dependencies.submit({ kind: 'start', payload });
    return outcome.kind === 'acquiring' ? acquireWithDriver(dependencies, outcome.lease, attempt) : outcome;
  },
  async onRejected({ recordRejection }, data, rejection) {
    const run = runReferenceSchema.safeParse(data);
    if (run.success) await recordRejection(run.data, rejection);
  },
};

/** A run ended: its end is recorded, and its leases end or wait for their cleanup. */
export const runFinishedHandler: Handler<typeof runFinishedSchema> = {
  queue: 'run-finished',
  schema: runFinishedSchema,
  async handle({ submit, requestReleases }, payload) {
    const outcome = await submit({ kind: 'finish', payload });
    const leases = outcome.kind === 'done' ? outcome.result.leases : [];
    const uncleaned = leases.filter((lease) => lease.status === 'pending_cleanup');
    await requestReleases(uncleaned.map(({ id }) => ({ version: 1, companyId: payload.companyId, leaseId: id })));
    return outcome;
  },
};

/** A run is alive: its leases are renewed. */
export const runHeartbeatHandler: Handler<typeof runHeartbeatSchema> = {
  queue: 'run-heartbeat',
  schema: runHeartbeatSchema,
  handle: ({ submit }, payload) => submit({ kind: 'renew', payload }),
};

/** A lease waits for its cleanup: its driver removes what it made outside Postgres, and the lease ends. */
export const leaseReleaseHandler: Handler<typeof leaseReleaseSchema> = {
  queue: 'lease-release',
  schema: leaseReleaseSchema,
  async handle(dependencies, payload, attempt) {
    const outcome = await dependencies.submit({ kind: 'release', payload });
    return outcome.kind === 'cleaning' ? cleanUpWithDriver(dependencies, outcome, attempt) : outcome;
  },
};

/** The handler of every queue whose jobs are operations. */
export const HANDLERS = [runStartedHandler, runFinishedHandler, runHeartbeatHandler, leaseReleaseHandler];

/**
 * Has a driver acquire a pending lease, in two steps: the beginning is committed before the call and its result after. A
 * crash in between leaves a row that says so, and the next attempt begins again.
 */
async function acquireWithDriver(
  dependencies: HandlerDependencies,
  pending: GrantedLease,
  attempt: Attempt,
): Promise<OperationOutcome> {
  const environmentId = pending.environment.id;
  const outcome = await dependencies.drivers.withPermit(environmentId, () => acquire(dependencies, pending, attempt));
  return outcome ?? environmentBusy(environmentId);
}

async function acquire(
  { submit, drivers, requestReleases }: HandlerDependencies,
  { id: leaseId, companyId }: GrantedLease,
  attempt: Attempt,
): Promise<OperationOutcome> {
  const begun = await submit({ kind: 'begin-acquiring', payload: { companyId, leaseId } });
  if (begun.kind !== 'acquiring') return begun;

  const acquired = await drivers.acquire(begun.lease);
  if (!acquired.ok) {
    const rejection = rejectionOf(acquired.error);
    const isFinal = rejection !== undefined || attempt.isLast;
    const reason = acquired.error.message;
    await submit({
      kind: 'not-acquired',
      payload: { companyId, leaseId, reason, attempt: attempt.number, isFinal, isOver: acquired.isOver, rejection },
    });
    if (isFinal) await requestReleases([{ version: 1, companyId, leaseId }]);
    return rejection === undefined ? { kind: 'unavailable', reason } : { kind: 'rejected', rejection };
  }

  const { providerLeaseId } = acquired.result;
  const activated = await submit({ kind: 'acquired', payload: { companyId, leaseId, providerLeaseId } });
  const isActive = activated.kind === 'done' && activated.result?.status === 'active';
  if (!isActive) await requestReleases([{ version: 1, companyId, leaseId }]);
  return activated;
}

/** Driver errors that no retry can change: the run is rejected on the first one. */
const FINAL_DRIVER_ERRORS = [
  'host_key_rejected',
  'authentication_failed',
  'secret_unavailable',
  'workspace_unusable',
] as const satisfies readonly RejectionCode[];

function rejectionOf(error: EnvironmentFailedError): Rejection | undefined {
  const code = FINAL_DRIVER_ERRORS.find((known) => known === error.code);
  return code === undefined ? undefined : { code, reason: error.message };
}

/** Safe to repeat: a driver ignores what it has removed already. */
async function cleanUpWithDriver(
  { submit, drivers }: HandlerDependencies,
  { lease, provider }: { lease: GrantedLease; provider: string },
  attempt: Attempt,
): Promise<OperationOutcome> {
  const { id: leaseId, companyId, environment } = lease;
  const outcome = await drivers.withPermit(environment.id, async (): Promise<OperationOutcome> => {
    const released = await drivers.release(provider, lease);
    if (released.ok) return submit({ kind: 'cleaned-up', payload: { companyId, leaseId } });
    const reason = released.error.message;
    const failure = { companyId, leaseId, reason, attempt: attempt.number, isFinal: attempt.isLast };
    await submit({ kind: 'not-cleaned-up', payload: failure });
    return { kind: 'unavailable', reason };
  });
  return outcome ?? environmentBusy(environment.id);
}

function environmentBusy(environmentId: string): OperationOutcome {
  return { kind: 'snoozed', reason: `environment ${environmentId} has its maximum of driver calls in flight` };
}
