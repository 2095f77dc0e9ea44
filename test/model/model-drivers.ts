import { becomeActive, endLease, touch } from './model-leases.ts';
import { hasEnded, viewOf } from './model.ts';
import type { Model, ModelLease, ModelOutcome } from './model.ts';

/** A message about one lease: a step or a result of its driver, or the request to clean it up. */
export type LeaseMessage = { company: number; lease: string } & (
  | { kind: 'begin-acquiring' }
  | { kind: 'acquired' }
  | { kind: 'not-acquired'; isOver: boolean; isFinal: boolean; isRejected: boolean }
  | { kind: 'release' }
  | { kind: 'cleaned-up' }
  | { kind: 'not-cleaned-up'; isFinal: boolean }
);
type NotAcquired = Extract<LeaseMessage, { kind: 'not-acquired' }>;

/** The failure that drivers report, and the attempt. */
export const DRIVER_FAILURE = { reason: 'host is down', attempt: 3 };
export const DRIVER_REJECTION = 'host_key_rejected' as const;

/** How long an acquisition may take. */
const ACQUIRING_SECONDS = 75;

/** The provider's id of what a driver acquires for a lease that adopts nothing. */
export const providerIdFor = (lease: string): string => `resource of ${lease}`;

export function applyToLease(model: Model, message: LeaseMessage): ModelOutcome {
  const lease = model.leases.find(({ id }) => id === message.lease)!;
  if (message.company !== lease.company) return { kind: 'rejected', code: 'unknown_lease' };
  if (message.kind === 'begin-acquiring') return beginAcquiring(model, lease);
  if (message.kind === 'acquired') return acquired(model, lease);
  if (message.kind === 'not-acquired') return notAcquired(model, lease, message);
  if (message.kind === 'release') return release(model, lease);
  return message.kind === 'cleaned-up' ? cleanedUp(model, lease) : notCleanedUp(model, lease, message.isFinal);
}

const statusOf = ({ id, status }: ModelLease): ModelOutcome => ({ kind: 'status', lease: id, status });

/** The lease as its run sees it. */
export const resultOf = (model: Model, lease: ModelLease): ModelOutcome => ({
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
    lease.providerLeaseId ??= providerIdFor(lease.id);
    becomeActive(model, lease);
  } else cleanUpSuperseded(model, lease);
  return resultOf(model, lease);
}

/** A driver acquired for a lease that has ended meanwhile: what it made is cleaned up, possibly for a second time. */
function cleanUpSuperseded(model: Model, lease: ModelLease): void {
  const { status, failureReason } = lease;
  if (status === 'active' || status === 'retained' || isAdopted(lease)) return;
  lease.endedTwice ||= lease.events.includes(status);
  lease.ending ??= { status, reason: failureReason };
  Object.assign(lease, { status: 'pending_cleanup', cleanup: 'pending', acquiringUntil: model.now });
}

/** Another lease has adopted what its driver acquired. */
const isAdopted = ({ status, ending }: ModelLease): boolean => status === 'released' && ending === null;

function notAcquired(model: Model, lease: ModelLease, { isOver, isFinal, isRejected }: NotAcquired): ModelOutcome {
  if (lease.status !== 'pending' && lease.status !== 'pending_cleanup') return statusOf(lease);
  if (isOver) lease.acquiringUntil = lease.status === 'pending' ? null : model.now;
  if (lease.status === 'pending') {
    const { reason } = DRIVER_FAILURE;
    Object.assign(lease, { touchedAt: model.now, failureReason: reason });
    if (isFinal) {
      endLease(model, lease, 'failed', { failureReason: `acquisition failed: ${reason}`, cleanup: 'pending' });
      const run = `${lease.company} ${lease.run!}` as const;
      if (isRejected && !model.rejections.has(run)) model.rejections.set(run, DRIVER_REJECTION);
    }
  }
  return statusOf(lease);
}

/** A job requests the cleanup. One that failed permanently is started again. */
function release(model: Model, lease: ModelLease): ModelOutcome {
  const before = viewOf(lease);
  if (hasFailedCleanup(lease)) Object.assign(lease, { status: 'pending_cleanup', cleanup: 'pending' });
  if (lease.status !== 'pending_cleanup') return statusOf(lease);
  const isBeingAcquired = lease.acquiringUntil !== null && model.now < lease.acquiringUntil;
  if (isBeingAcquired) return { kind: 'snoozed' };
  lease.acquiringUntil = null;
  return { kind: 'cleaning', lease: before };
}

const hasFailedCleanup = ({ status, cleanup }: ModelLease): boolean => status === 'failed' && cleanup === 'failed';

function cleanedUp(model: Model, lease: ModelLease): ModelOutcome {
  if (lease.status === 'pending_cleanup') {
    // What was acquired since the cleanup started is not cleaned up.
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
