import { becomeActive, endLease, touch } from './model-leases.ts';
import { hasEnded, viewOf } from './model.ts';
import type { Model, ModelLease, ModelOutcome } from './model.ts';

/** What is about one lease: what its driver does or has come to, or that it is to be cleaned up after. */
export type LeaseMessage = { company: number; lease: string } & (
  | { kind: 'begin-acquiring' }
  | { kind: 'acquired' }
  | { kind: 'not-acquired'; isOver: boolean; isFinal: boolean; isRefused: boolean }
  | { kind: 'release' }
  | { kind: 'cleaned-up' }
  | { kind: 'not-cleaned-up'; isFinal: boolean }
);
type NotAcquired = Extract<LeaseMessage, { kind: 'not-acquired' }>;

/** What a driver says went wrong, and in which attempt. */
export const DRIVER_FAILURE = { reason: 'host is down', attempt: 3 };
export const DRIVER_REFUSAL = 'host_key_rejected' as const;

/** How long a driver may be at work acquiring. */
const ACQUIRING_SECONDS = 75;

/** What a driver calls what it acquires for a lease that takes nothing over. */
export const placeFor = (lease: string): string => `place of ${lease}`;

export function carryOutOnLease(model: Model, message: LeaseMessage): ModelOutcome {
  const lease = model.leases.find(({ id }) => id === message.lease)!;
  if (message.company !== lease.company) return { kind: 'rejected', code: 'unknown_lease' };
  if (message.kind === 'begin-acquiring') return beginAcquiring(model, lease);
  if (message.kind === 'acquired') return acquired(model, lease);
  if (message.kind === 'not-acquired') return notAcquired(model, lease, message);
  if (message.kind === 'release') return release(model, lease);
  return message.kind === 'cleaned-up' ? cleanedUp(model, lease) : notCleanedUp(model, lease, message.isFinal);
}

const statusOf = ({ id, status }: ModelLease): ModelOutcome => ({ kind: 'status', lease: id, status });

/** The lease as its run is told of it. */
const resultOf = (model: Model, lease: ModelLease): ModelOutcome => ({
  kind: 'lease',
  lease: hasEnded(model, lease.run) ? null : viewOf(lease),
});

function beginAcquiring(model: Model, lease: ModelLease): ModelOutcome {
  if (lease.status !== 'pending') return resultOf(model, lease);
  touch(model, lease);
  lease.acquiringUntil = model.now + ACQUIRING_SECONDS;
  return hasEnded(model, lease.run) ? { kind: 'lease', lease: null } : { kind: 'acquiring', lease: viewOf(lease) };
}

function acquired(model: Model, lease: ModelLease): ModelOutcome {
  if (lease.status === 'pending') {
    lease.providerLeaseId ??= placeFor(lease.id);
    becomeActive(model, lease);
  } else cleanUpSuperseded(model, lease);
  return resultOf(model, lease);
}

/** A driver acquired for a lease that had ended meanwhile: what it made is to be cleaned up, perhaps once more. */
function cleanUpSuperseded(model: Model, lease: ModelLease): void {
  const { status, failureReason } = lease;
  if (status === 'active' || status === 'retained' || isTakenOver(lease)) return;
  lease.endedTwice ||= lease.told.includes(status);
  lease.ending ??= { status, reason: failureReason };
  Object.assign(lease, { status: 'pending_cleanup', cleanup: 'pending', acquiringUntil: model.now });
}

/** Another lease has what its driver acquired. */
const isTakenOver = ({ status, ending }: ModelLease): boolean => status === 'released' && ending === null;

function notAcquired(model: Model, lease: ModelLease, { isOver, isFinal, isRefused }: NotAcquired): ModelOutcome {
  if (lease.status !== 'pending' && lease.status !== 'pending_cleanup') return statusOf(lease);
  if (isOver) lease.acquiringUntil = lease.status === 'pending' ? null : model.now;
  if (lease.status === 'pending') {
    const { reason } = DRIVER_FAILURE;
    Object.assign(lease, { touchedAt: model.now, failureReason: reason });
    if (isFinal) {
      endLease(model, lease, 'failed', { failureReason: `acquisition failed: ${reason}`, cleanup: 'pending' });
      const run = `${lease.company} ${lease.run!}` as const;
      if (isRefused && !model.rejections.has(run)) model.rejections.set(run, DRIVER_REFUSAL);
    }
  }
  return statusOf(lease);
}

/** A job asks for the cleanup. One that had failed for good is taken up again. */
function release(model: Model, lease: ModelLease): ModelOutcome {
  const before = viewOf(lease);
  if (isGivenUp(lease)) Object.assign(lease, { status: 'pending_cleanup', cleanup: 'pending' });
  if (lease.status !== 'pending_cleanup') return statusOf(lease);
  const isBeingAcquired = lease.acquiringUntil !== null && model.now < lease.acquiringUntil;
  if (isBeingAcquired) return { kind: 'snoozed' };
  lease.acquiringUntil = null;
  return { kind: 'cleaning', lease: before };
}

const isGivenUp = ({ status, cleanup }: ModelLease): boolean => status === 'failed' && cleanup === 'failed';

function cleanedUp(model: Model, lease: ModelLease): ModelOutcome {
  if (lease.status === 'pending_cleanup') {
    // What was acquired since the cleanup began is not cleaned up.
    if (lease.acquiringUntil !== null) return { kind: 'snoozed' };
    const { status, reason } = lease.ending!;
    endLease(model, lease, status, { failureReason: reason, cleanup: 'success' });
  }
  return statusOf(lease);
}

function notCleanedUp(model: Model, lease: ModelLease, isFinal: boolean): ModelOutcome {
  if (lease.status === 'pending_cleanup') {
    const because = `release attempt ${DRIVER_FAILURE.attempt} failed: ${DRIVER_FAILURE.reason}`;
    const { reason } = lease.ending!;
    lease.failureReason = reason === null ? because : `${reason}; ${because}`;
    if (isFinal) endLease(model, lease, 'failed', { failureReason: lease.failureReason, cleanup: 'failed' });
  }
  return statusOf(lease);
}
