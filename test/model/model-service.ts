import type { ErrorCode, LeasePolicy, TerminalRunStatus } from '../../src/contracts/index.ts';
import type { ReleaseStatus } from '../../src/environments/service/input.ts';
import { endLease } from './model-leases.ts';
import { DEFAULT_TTL_SECONDS, recordStart } from './model-messages.ts';
import { inTheWay, take } from './model-workspaces.ts';
import { ensureEnvironment, environmentOf, hasEnded, hasLapsed, isLive, isOnHost } from './model.ts';
import { newestLease, registerCompany, viewOf } from './model.ts';
import type { Model, ModelLease, ModelOutcome, Place } from './model.ts';

/** What a service asks for that leases itself. Without a run, the lease is nobody's. */
export interface Acquisition {
  company: number;
  place: Place;
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

/** Changes the model unless the action is refused, as a transaction does. */
function unlessRefused(model: Model, action: (draft: Model) => ModelOutcome): ModelOutcome {
  const draft = structuredClone(model);
  const outcome = action(draft);
  if (outcome.kind !== 'rejected') Object.assign(model, draft);
  return outcome;
}

const refused = (code: ErrorCode): ModelOutcome => ({ kind: 'rejected', code });

export function acquire(model: Model, { company, place, run, workspace, policy }: Acquisition): ModelOutcome {
  return unlessRefused(model, (draft) => {
    registerCompany(draft, company);
    if (draft.companies.get(company) === 'archived') return refused('company_archived');
    if (run !== undefined) {
      recordStart(draft, { company, run });
      if (draft.runs.get(run)!.company !== company) return refused('foreign_run');
      if (hasEnded(draft, run)) return refused('run_ended');
    }
    const environment = environmentOf(company, place);
    const found = draft.environments.get(environment);
    if (found === undefined) return refused('unknown_environment');
    if (found.status === 'archived') return refused('environment_archived');
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
    if (inTheWay(draft, draft, request)) return refused('workspace_held');
    return { kind: 'lease', lease: viewOf(take(draft, request)) };
  });
}

/** Whether the lease is held, with the token it was granted with (fenced). */
export function assertCurrent(model: Model, leaseId: string): ModelOutcome {
  const lease = model.leases.find(({ id }) => id === leaseId)!;
  return lease.status === 'active' && !hasLapsed(model, lease) ? { kind: 'current' } : refused('lease_stale');
}

/** Ends a lease as its service says; one that has ended, or will once it is cleaned up after, stays as it is. */
export function release(model: Model, leaseId: string, status: ReleaseStatus): ModelOutcome {
  return unlessRefused(model, (draft) => {
    const lease = draft.leases.find(({ id }) => id === leaseId)!;
    return releaseOne(draft, lease, status) ?? { kind: 'lease', lease: viewOf(lease) };
  });
}

/** Ends all live leases of a run, or none. */
export function releaseRun(model: Model, run: number, status: ReleaseStatus): ModelOutcome {
  return unlessRefused(model, (draft) => {
    const live = draft.leases.filter((lease) => lease.run === run && isLive(lease));
    const rejection = live.map((lease) => releaseOne(draft, lease, status)).find((outcome) => outcome !== undefined);
    return rejection ?? { kind: 'leases', leases: live.map(({ id, status: endedAs }) => ({ id, status: endedAs })) };
  });
}

function releaseOne(model: Model, lease: ModelLease, status: ReleaseStatus): ModelOutcome | undefined {
  if (!isLive(lease) && lease.status !== 'retained') return undefined;
  if (status === 'retained' && lease.status !== 'active') return refused('invalid_transition');
  if (status === 'expired' && !hasLapsed(model, lease)) return refused('invalid_transition');
  endLease(model, lease, status, {
    failureReason: lease.failureReason ?? REASONS[status],
    cleanup: status === 'retained' || isOnHost(lease) ? 'pending' : 'success',
  });
  return undefined;
}

/** A service makes an environment for a company, where it has none of the kind. */
export function makeEnvironment(model: Model, company: number, place: Place): void {
  registerCompany(model, company);
  ensureEnvironment(model, environmentOf(company, place));
}

/** Archives an environment, or takes it into service again. */
export function setEnvironmentStatus(
  model: Model,
  { company, place, status }: { company: number; place: Place; status: 'active' | 'archived' },
): void {
  const environment = model.environments.get(environmentOf(company, place));
  if (environment === undefined || environment.status === status) return;
  environment.status = status;
  environment.told.push(status === 'archived' ? 'archived' : 'updated');
}

/** A control plane writes the end of a run into the ledger itself, and knows nothing of leases. */
export function writeEnd(model: Model, run: number, status: TerminalRunStatus): void {
  if (!hasEnded(model, run)) Object.assign(model.runs.get(run)!, { status, failureReason: null });
}
