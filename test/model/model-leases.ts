import type { LeasePolicy, LeaseStatus } from '../../src/contracts/index.ts';
import { hasEnded, hasLapsed, isLive } from './model.ts';
import type { EnvironmentName, Model, ModelLease } from './model.ts';

/** What a lease is granted for. */
export interface LeaseRequest {
  company: number;
  environment: EnvironmentName;
  run: number | null;
  workspace: number | null;
  policy: LeasePolicy;
  ttl: number;
}

export function grant(model: Model, request: LeaseRequest): ModelLease {
  const ordinal = model.leases.filter((other) => other.company === request.company).length;
  const lease: ModelLease = {
    ...request,
    id: `${request.company}.${ordinal}`,
    status: 'active',
    expiresAt: model.now + request.ttl,
    failureReason: null,
    cleanup: null,
    told: ['acquired'],
  };
  model.leases.push(lease);
  if (request.run !== null) model.runs.get(request.run)!.placedBy = lease.id;
  return lease;
}

/** Takes a lease from its status to another and tells it, once. */
export function endLease(
  model: Model,
  lease: ModelLease,
  status: LeaseStatus,
  explained: Pick<ModelLease, 'failureReason' | 'cleanup'>,
): ModelLease {
  if (status === 'retained') lease.expiresAt = Math.max(lease.expiresAt, model.now + lease.ttl);
  lease.told.push(status);
  return Object.assign(lease, { status, ...explained });
}

/** Nothing is left to clean up of a lease on the local machine. */
const cleanupOf = (lease: ModelLease) => (lease.environment.startsWith('local') ? 'success' : 'pending');

/** Ends the live leases of a run the way the run ended, and returns them. */
export function endLeasesOfRun(model: Model, run: number): ModelLease[] {
  const live = model.leases.filter((lease) => lease.run === run && isLive(lease));
  return live.map((lease) => endAsItsRun(model, lease));
}

export function endAsItsRun(model: Model, lease: ModelLease): ModelLease {
  const run = model.runs.get(lease.run!)!;
  if (run.status === 'succeeded' || run.status === 'cancelled') {
    return endLease(model, lease, 'released', { failureReason: null, cleanup: cleanupOf(lease) });
  }
  const unexplained = run.status === 'failed' ? 'the run failed and gave no reason' : 'the run timed out';
  const failureReason = run.failureReason ?? unexplained;
  if (lease.policy === 'retain_on_failure') {
    return endLease(model, lease, 'retained', { failureReason, cleanup: 'pending' });
  }
  return endLease(model, lease, 'failed', { failureReason, cleanup: cleanupOf(lease) });
}

/** A live lease whose run has ended, though the lease has not. */
const isOrphaned = (model: Model, lease: ModelLease): boolean => isLive(lease) && hasEnded(model, lease.run);

const canExpire = (model: Model, lease: ModelLease): boolean =>
  (isLive(lease) || lease.status === 'retained') && hasLapsed(model, lease);

export function expire(model: Model, lease: ModelLease): void {
  const because = lease.status === 'retained' ? 'kept after its run until <instant>' : 'not renewed before <instant>';
  const failureReason = lease.failureReason === null ? because : `${lease.failureReason}; ${because}`;
  endLease(model, lease, 'expired', { failureReason, cleanup: cleanupOf(lease) });
}

/** Extends a live lease; one that had lapsed is saved, which is told. */
export function renew(model: Model, lease: ModelLease, ttl: number | undefined): void {
  if (hasLapsed(model, lease)) lease.told.push('renewed');
  lease.expiresAt = Math.max(lease.expiresAt, model.now + (ttl ?? lease.ttl));
}

/** Makes an expired lease live again. */
export function revive(model: Model, lease: ModelLease, ttl: number | undefined): void {
  lease.told.push('renewed');
  Object.assign(lease, { status: 'active', failureReason: null, cleanup: null });
  lease.expiresAt = model.now + (ttl ?? lease.ttl);
}

/** Whether the sweep would end the lease. */
export const isDue = (model: Model, lease: ModelLease): boolean => isOrphaned(model, lease) || canExpire(model, lease);

/** Ends what should have ended by now: leases whose run has ended as it did, then those that have lapsed. */
export function sweep(model: Model, only?: readonly string[]): { orphaned: number; expired: number } {
  const leases = model.leases.filter(({ id }) => only === undefined || only.includes(id));
  const orphaned = leases.filter((lease) => isOrphaned(model, lease));
  for (const lease of orphaned) endAsItsRun(model, lease);
  const lapsed = leases.filter((lease) => canExpire(model, lease));
  for (const lease of lapsed) expire(model, lease);
  return { orphaned: orphaned.length, expired: lapsed.length };
}
