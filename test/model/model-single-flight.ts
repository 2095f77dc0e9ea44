import { endLease, endLeasesOfRun, expire, grant, prepare } from './model-leases.ts';
import type { LeaseRequest } from './model-leases.ts';
import { hasEnded, isPastExpiry, isLive, isOnHost, newestLease } from './model.ts';
import type { EnvironmentName, Blocker, Model, ModelLease, ModelWait } from './model.ts';

/** A waiting run that has not asked for this long loses its turn. */
const ASKED_LATELY_SECONDS = 30;

/** How long a run waits before it is rejected. */
export const LEASE_WAIT_SECONDS = 60;

/**
 * What blocks a lease (single-flight); undefined when it can be granted.
 * @param seen the model as all starts of one set see it
 */
export function blockerOf(model: Model, seen: Model, request: LeaseRequest): Blocker | undefined {
  if (request.policy !== 'ephemeral' || request.workspace === null) return undefined;
  const grantedNow = model.leases.slice(seen.leases.length).find((lease) => isOn(lease, request) && isLive(lease));
  if (grantedNow) return { as: 'holder', run: grantedNow.run, inSameTransaction: true };
  const holder = holderOf(seen, request);
  if (holder && !isOver(seen, holder)) return { as: 'holder', run: holder.run, inSameTransaction: false };
  const uncleaned = isOnHost(request) ? (holder ?? lastToCleanUp(seen, request)) : undefined;
  if (uncleaned) return { as: 'cleanup', run: uncleaned.run, inSameTransaction: false };
  const waiter = longestWaiter(seen, request);
  return waiter === undefined ? undefined : { as: 'waiter', run: waiter, inSameTransaction: false };
}

/** Grants a lease, and ends an expired or orphaned one in its place. */
export function take(model: Model, request: LeaseRequest): ModelLease {
  if (request.policy === 'ephemeral') endHolder(model, request);
  return grant(model, request);
}

/** Ends the expired or orphaned lease on a workspace. */
export function endHolder(model: Model, spot: Spot): void {
  const holder = holderOf(model, spot);
  if (holder && hasEnded(model, holder.run)) endLeasesOfRun(model, holder.run!);
  else if (holder && isPastExpiry(model, holder)) expire(model, holder);
}

/** Creates a lease for a driver to acquire. A resource kept for its scope is adopted, by one lease only. */
export function takeByDriver(model: Model, seen: Model, request: LeaseRequest): ModelLease {
  const id = seen.leases.findLast((lease) => isKeptFor(seen, lease, request))?.id;
  const kept = model.leases.find((lease) => lease.id === id && lease.status === 'retained');
  if (kept) endLease(model, kept, 'released', { failureReason: null, cleanup: 'success' });
  return prepare(model, request, kept?.providerLeaseId ?? null);
}

const isKeptFor = (model: Model, lease: ModelLease, { environment, workspace, policy }: LeaseRequest): boolean =>
  lease.status === 'retained' &&
  lease.environment === environment &&
  lease.policy === policy &&
  (policy === 'reuse_by_environment' ||
    (policy === 'reuse_by_execution_workspace' && workspace !== null && lease.workspace === workspace)) &&
  lease.providerLeaseId !== null &&
  !isPastExpiry(model, lease);

/** Whether nothing has taken the place of an expired lease since. */
export function canBeRevived(model: Model, lease: ModelLease): boolean {
  const { run, environment } = lease;
  return (
    run !== null &&
    lease.status === 'expired' &&
    !lease.events.includes('retained') &&
    newestLease(model, run, environment) === lease &&
    !hasEnded(model, run) &&
    model.environments.get(environment)!.status === 'active' &&
    !isOnHost(lease) &&
    (lease.policy !== 'ephemeral' ||
      !model.leases.slice(model.leases.indexOf(lease) + 1).some((later) => isOn(later, lease)))
  );
}

type Spot = { environment: EnvironmentName; workspace: number | null };

/** Whether an ephemeral lease is on the workspace, live or not. */
const isOn = (lease: ModelLease, spot: Spot): boolean =>
  lease.policy === 'ephemeral' &&
  spot.workspace !== null &&
  lease.environment === spot.environment &&
  lease.workspace === spot.workspace;

const holderOf = (model: Model, spot: Spot) => model.leases.find((lease) => isLive(lease) && isOn(lease, spot));

const lastToCleanUp = (model: Model, spot: Spot) =>
  model.leases.findLast((lease) => lease.status === 'pending_cleanup' && isOn(lease, spot));

const isOver = (model: Model, lease: ModelLease) => isPastExpiry(model, lease) || hasEnded(model, lease.run);

/** The run that has waited for the workspace longer than the one that asks. */
function longestWaiter(model: Model, request: LeaseRequest): number | undefined {
  const first = [...model.waits].find(
    ([run, wait]) => isFor(wait, request) && (run === request.run || isAsking(model, run, wait)),
  );
  return first?.[0] === request.run ? undefined : first?.[0];
}

const isFor = (wait: ModelWait, spot: Spot): boolean =>
  wait.environment === spot.environment && wait.workspace === spot.workspace;

const isAsking = (model: Model, run: number, wait: ModelWait): boolean =>
  model.now - wait.lastAsked < ASKED_LATELY_SECONDS && !hasEnded(model, run);

/** The run's wait for this workspace. A wait for another one does not count. */
export function waitFor(model: Model, run: number, spot: Spot): ModelWait | undefined {
  const wait = model.waits.get(run);
  return wait && isFor(wait, spot) ? wait : undefined;
}

/** Records that a run asked. It keeps its queue position, unless it asks for another workspace now. */
export function noteWait(model: Model, run: number, { environment, workspace }: Spot): void {
  const wait = waitFor(model, run, { environment, workspace });
  if (wait) wait.lastAsked = model.now;
  else {
    model.waits.delete(run);
    model.waits.set(run, { environment, workspace: workspace!, since: model.now, lastAsked: model.now });
  }
}
