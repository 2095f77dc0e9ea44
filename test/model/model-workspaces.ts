import { endLease, endLeasesOfRun, expire, grant, prepare } from './model-leases.ts';
import type { LeaseRequest } from './model-leases.ts';
import { hasEnded, hasLapsed, isLive, isOnHost, newestLease } from './model.ts';
import type { EnvironmentName, InTheWay, Model, ModelLease, ModelWait } from './model.ts';

/** A run that has not asked for so long is passed over. */
const ASKED_LATELY_SECONDS = 30;

/** How long a run waits before it is refused. */
export const LEASE_WAIT_SECONDS = 60;

/**
 * Who is in the way of a lease (single-flight); undefined when it can be granted.
 * @param seen the model as all starts of one set see it
 */
export function inTheWay(model: Model, seen: Model, request: LeaseRequest): InTheWay | undefined {
  if (request.policy !== 'ephemeral' || request.workspace === null) return undefined;
  const grantedNow = model.leases.slice(seen.leases.length).find((lease) => isOn(lease, request) && isLive(lease));
  if (grantedNow) return { as: 'holder', run: grantedNow.run, justNow: true };
  const holder = holderOf(seen, request);
  if (holder && !isOver(seen, holder)) return { as: 'holder', run: holder.run, justNow: false };
  const uncleaned = isOnHost(request) ? (holder ?? lastToCleanUp(seen, request)) : undefined;
  if (uncleaned) return { as: 'cleanup', run: uncleaned.run, justNow: false };
  const waiter = longestWaiter(seen, request);
  return waiter === undefined ? undefined : { as: 'waiter', run: waiter, justNow: false };
}

/** Grants a lease, ending that of a holder whose time is over. */
export function take(model: Model, request: LeaseRequest): ModelLease {
  if (request.policy === 'ephemeral') endHolder(model, request);
  return grant(model, request);
}

/** Ends the lease of a holder whose time is over. */
export function endHolder(model: Model, spot: Spot): void {
  const holder = holderOf(model, spot);
  if (holder && hasEnded(model, holder.run)) endLeasesOfRun(model, holder.run!);
  else if (holder && hasLapsed(model, holder)) expire(model, holder);
}

/** Makes a lease that a driver is to acquire. What is kept for its scope is taken over, by one lease alone. */
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
  !hasLapsed(model, lease);

/** Whether the run's place on the environment is as free as when its lease there expired. */
export function canBeRevived(model: Model, lease: ModelLease): boolean {
  const { run, environment } = lease;
  return (
    run !== null &&
    lease.status === 'expired' &&
    !lease.told.includes('retained') &&
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

const isOver = (model: Model, lease: ModelLease) => hasLapsed(model, lease) || hasEnded(model, lease.run);

/** The run that waits for the workspace and has done so for longer than the one that asks. */
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

/** The run's wait for this workspace; one for another is no merit. */
export function waitFor(model: Model, run: number, spot: Spot): ModelWait | undefined {
  const wait = model.waits.get(run);
  return wait && isFor(wait, spot) ? wait : undefined;
}

/** Notes that a run asked. It keeps its place, unless it asks for another workspace by now. */
export function noteWait(model: Model, run: number, { environment, workspace }: Spot): void {
  const wait = waitFor(model, run, { environment, workspace });
  if (wait) wait.lastAsked = model.now;
  else {
    model.waits.delete(run);
    model.waits.set(run, { environment, workspace: workspace!, since: model.now, lastAsked: model.now });
  }
}
