import type { LeasePolicy, LeaseStatus } from '../../src/contracts/index.ts';
import { hasEnded, isPastExpiry, isLive, isOnHost } from './model.ts';
import type { EnvironmentName, Model, ModelLease } from './model.ts';

/** The terms of a lease. */
export interface LeaseRequest {
  company: number;
  environment: EnvironmentName;
  run: number | null;
  workspace: number | null;
  policy: LeasePolicy;
  ttl: number;
}

/** How long an untouched pending lease stays live. */
export const PENDING_SECONDS = 180;

/** Grants a lease that is active immediately. */
export function grant(model: Model, request: LeaseRequest): ModelLease {
  return becomeActive(model, make(model, request));
}

/** Creates a lease for a driver to acquire. No event is recorded until that is done. */
export function prepare(model: Model, request: LeaseRequest, providerLeaseId: string | null): ModelLease {
  const lease = make(model, request);
  Object.assign(lease, { byDriver: true, providerLeaseId });
  touch(model, lease);
  return lease;
}

function make(model: Model, request: LeaseRequest): ModelLease {
  const { environment } = request;
  const ordinal = model.leases.filter((other) => other.environment === environment).length;
  const lease: ModelLease = {
    ...request,
    id: `${environment} #${ordinal}`,
    status: 'pending',
    expiresAt: model.now + request.ttl,
    failureReason: null,
    cleanup: null,
    events: [],
    byDriver: false,
    providerLeaseId: null,
    acquiringUntil: null,
    touchedAt: model.now,
    ending: null,
    endedTwice: false,
  };
  model.leases.push(lease);
  if (request.run !== null) model.waits.delete(request.run);
  return lease;
}

/** Extends a pending lease whose acquisition makes progress. */
export function touch(model: Model, lease: ModelLease): void {
  if (lease.status !== 'pending') return;
  lease.touchedAt = model.now;
  lease.expiresAt = Math.max(lease.expiresAt, model.now + PENDING_SECONDS);
}

/** Makes a pending lease active for its ttl, with the highest fencing token so far. */
export function becomeActive(model: Model, lease: ModelLease): ModelLease {
  model.leases = [...model.leases.filter((other) => other !== lease), lease];
  if (lease.run !== null) model.runs.get(lease.run)!.contextLease = lease.id;
  lease.events.push('acquired');
  const expiresAt = model.now + lease.ttl;
  return Object.assign(lease, { status: 'active', expiresAt, failureReason: null, acquiringUntil: null });
}

/** Changes the status of a lease and records one event: for a lease that needs a cleanup, once that is done. */
export function endLease(
  model: Model,
  lease: ModelLease,
  status: LeaseStatus,
  explained: Pick<ModelLease, 'failureReason' | 'cleanup'>,
): ModelLease {
  if (status === 'retained') lease.expiresAt = Math.max(lease.expiresAt, model.now + lease.ttl);
  else if (explained.cleanup === 'pending') {
    const ending = { status, reason: explained.failureReason };
    return Object.assign(lease, { status: 'pending_cleanup', ending, ...explained });
  }
  const hasFailedCleanup = lease.status === 'pending_cleanup' && explained.cleanup === 'failed';
  lease.events.push(hasFailedCleanup ? 'release_failed' : status);
  return Object.assign(lease, { status, ...explained });
}

/** A lease on the local machine needs no cleanup. */
const cleanupOf = (lease: ModelLease) => (isOnHost(lease) ? 'pending' : 'success');

/** Whether the resource of a lease is kept for the next run of its scope. */
const isReused = (lease: ModelLease): boolean => isOnHost(lease) && lease.policy.startsWith('reuse_by_');

/** Ends the live leases of a run as the run ended, and returns them. */
export function endLeasesOfRun(model: Model, run: number): ModelLease[] {
  const live = model.leases.filter((lease) => lease.run === run && isLive(lease));
  return live.map((lease) => endAsItsRun(model, lease));
}

export function endAsItsRun(model: Model, lease: ModelLease): ModelLease {
  const run = model.runs.get(lease.run!)!;
  const isActive = lease.status === 'active';
  if (run.status === 'succeeded' || run.status === 'cancelled') {
    const kept = { failureReason: null, cleanup: 'pending' } as const;
    if (isActive && isReused(lease)) return endLease(model, lease, 'retained', kept);
    return endLease(model, lease, 'released', { failureReason: null, cleanup: cleanupOf(lease) });
  }
  const unexplained = run.status === 'failed' ? 'the run failed and gave no reason' : 'the run timed out';
  const failureReason = run.failureReason ?? unexplained;
  if (isActive && lease.policy === 'retain_on_failure') {
    return endLease(model, lease, 'retained', { failureReason, cleanup: 'pending' });
  }
  return endLease(model, lease, 'failed', { failureReason, cleanup: cleanupOf(lease) });
}

/** Extends an active lease. Saving one past its expiry is recorded. */
export function renew(model: Model, lease: ModelLease, ttl: number | undefined): void {
  if (isPastExpiry(model, lease)) lease.events.push('renewed');
  lease.expiresAt = Math.max(lease.expiresAt, model.now + (ttl ?? lease.ttl));
}

/** Makes an expired lease active again. */
export function revive(model: Model, lease: ModelLease, ttl: number | undefined): void {
  lease.events.push('renewed');
  Object.assign(lease, { status: 'active', failureReason: null, cleanup: null });
  lease.expiresAt = model.now + (ttl ?? lease.ttl);
}

export function expire(model: Model, lease: ModelLease): void {
  const because = lease.status === 'retained' ? 'kept after its run until <instant>' : 'not renewed before <instant>';
  const failureReason = lease.failureReason === null ? because : `${lease.failureReason}; ${because}`;
  endLease(model, lease, 'expired', { failureReason, cleanup: cleanupOf(lease) });
}

/** Fails a lease whose acquisition is never completed. */
export function abandon(model: Model, lease: ModelLease): void {
  const failureReason = 'acquisition never completed: not touched since <instant>';
  endLease(model, lease, 'failed', { failureReason, cleanup: cleanupOf(lease) });
}

/** A live lease whose run has ended, though the lease has not. */
export const isOrphaned = (model: Model, lease: ModelLease): boolean => isLive(lease) && hasEnded(model, lease.run);

export const canExpire = (model: Model, lease: ModelLease): boolean =>
  (isLive(lease) || lease.status === 'retained') && isPastExpiry(model, lease);

export const isAbandoned = (model: Model, lease: ModelLease): boolean =>
  lease.status === 'pending' && model.now - lease.touchedAt >= PENDING_SECONDS;
