import type { ErrorCode, LeasePolicy, TerminalRunStatus } from '../../src/contracts/index.ts';
import type { ReleaseStatus } from '../../src/environments/service/input.ts';
import { endLease } from './model-leases.ts';
import { DEFAULT_TTL_SECONDS, recordStart } from './model-messages.ts';
import { blockerOf, take } from './model-single-flight.ts';
import { ensureEnvironment, environmentOf, hasEnded, isPastExpiry, isLive, isOnHost } from './model.ts';
import { newestLease, registerCompany, viewOf } from './model.ts';
import type { Model, ModelLease, ModelOutcome, Location } from './model.ts';

/** A request of a service that leases directly. Without a run, the lease belongs to no run. */
export interface Acquisition {
  company: number;
  location: Location;
  run?: number;
  workspace?: number;
  policy?: LeasePolicy;
}

const REASONS: Record<ReleaseStatus, string | null> = {
  released: null,
  failed: 'ended as failed by its service, which gave no reason',
  expired: 'not renewed before it expired',
  retained: null,
};

/** Changes the model unless the action is rejected, like a transaction. */
function unlessRejected(model: Model, action: (draft: Model) => ModelOutcome): ModelOutcome {
  const draft = structuredClone(model);
  const outcome = action(draft);
  if (outcome.kind !== 'rejected') Object.assign(model, draft);
  return outcome;
}

const rejected = (code: ErrorCode): ModelOutcome => ({ kind: 'rejected', code });

export function acquire(model: Model, { company, location, run, workspace, policy }: Acquisition): ModelOutcome {
  return unlessRejected(model, (draft) => {
    registerCompany(draft, company);
    if (draft.companies.get(company) === 'archived') return rejected('company_archived');
    if (run !== undefined) {
      recordStart(draft, { company, run });
      if (draft.runs.get(run)!.company !== company) return rejected('foreign_run');
      if (hasEnded(draft, run)) return rejected('run_ended');
    }
    const environment = environmentOf(company, location);
    const found = draft.environments.get(environment);
    if (found === undefined) return rejected('unknown_environment');
    if (found.status === 'archived') return rejected('environment_archived');
    const held = run === undefined ? undefined : newestLease(draft, run, environment);
    if (held && isLive(held)) return { kind: 'lease', lease: viewOf(held) };
    const request = {
      company,
      environment,
      run: run ?? null,
      workspace: workspace ?? null,
      policy: policy ?? 'ephemeral',
      ttl: DEFAULT_TTL_SECONDS,
    } as const;
    if (blockerOf(draft, draft, request)) return rejected('workspace_held');
    return { kind: 'lease', lease: viewOf(take(draft, request)) };
  });
}

/** Whether the lease is active under the token it was granted with (fenced). */
export function assertCurrent(model: Model, leaseId: string): ModelOutcome {
  const lease = model.leases.find(({ id }) => id === leaseId)!;
  return lease.status === 'active' && !isPastExpiry(model, lease) ? { kind: 'current' } : rejected('lease_stale');
}

/** Ends a lease with a status. One that has ended, or will once it is cleaned up, is unchanged. */
export function release(model: Model, leaseId: string, status: ReleaseStatus): ModelOutcome {
  return unlessRejected(model, (draft) => {
    const lease = draft.leases.find(({ id }) => id === leaseId)!;
    return releaseOne(draft, lease, status) ?? { kind: 'lease', lease: viewOf(lease) };
  });
}

/** Ends all live leases of a run, or none. */
export function releaseRun(model: Model, run: number, status: ReleaseStatus): ModelOutcome {
  return unlessRejected(model, (draft) => {
    const live = draft.leases.filter((lease) => lease.run === run && isLive(lease));
    const rejection = live.map((lease) => releaseOne(draft, lease, status)).find((outcome) => outcome !== undefined);
    return rejection ?? { kind: 'leases', leases: live.map(({ id, status: endedAs }) => ({ id, status: endedAs })) };
  });
}

function releaseOne(model: Model, lease: ModelLease, status: ReleaseStatus): ModelOutcome | undefined {
  if (!isLive(lease) && lease.status !== 'retained') return undefined;
  if (status === 'retained' && lease.status !== 'active') return rejected('invalid_transition');
  if (status === 'expired' && !isPastExpiry(model, lease)) return rejected('invalid_transition');
  endLease(model, lease, status, {
    failureReason: lease.failureReason ?? REASONS[status],
    cleanup: status === 'retained' || isOnHost(lease) ? 'pending' : 'success',
  });
  return undefined;
}

/** A service creates an environment for a company, unless it has one at the location. */
export function makeEnvironment(model: Model, company: number, location: Location): void {
  registerCompany(model, company);
  ensureEnvironment(model, environmentOf(company, location));
}

/** Archives or reactivates an environment. */
export function setEnvironmentStatus(
  model: Model,
  { company, location, status }: { company: number; location: Location; status: 'active' | 'archived' },
): void {
  const environment = model.environments.get(environmentOf(company, location));
  if (environment === undefined || environment.status === status) return;
  environment.status = status;
  environment.events.push(status === 'archived' ? 'archived' : 'updated');
}

/** A control plane writes the end of a run directly, without regard to leases. */
export function writeEnd(model: Model, run: number, status: TerminalRunStatus): void {
  if (!hasEnded(model, run)) Object.assign(model.runs.get(run)!, { status, failureReason: null });
}
