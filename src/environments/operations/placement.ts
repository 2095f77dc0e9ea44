import type { Rejection, RunStarted } from '../../contracts/index.ts';
import type { Transaction } from '../../db/connection.ts';
import type { NewLease } from '../../db/statements/acquire-leases.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { endLeasesOfRuns, expireLeases } from '../../db/statements/end-leases.ts';
import { hasExternalEffects } from '../../db/statements/external-effects.ts';
import type { FoundPlacement, WorkspaceHolder } from '../../db/statements/placements.ts';
import { describeHeld } from './operation.ts';
import type { HeldBy, LeasableEnvironments } from './operation.ts';

/** Which environment a run gets, and why. */
export interface EnvironmentSelection {
  /** Undefined for the company's `Local`. */
  environmentId: string | undefined;
  /** What decided; on the lease it is `environmentSelection` in its metadata. */
  decidedBy: { source: 'issue' | 'project' | 'agent' | 'company'; reason: string };
}

/** The most specific environment that the run names; without any, the company's `Local`. */
export function selectEnvironment({ environment = {} }: Pick<RunStarted, 'environment'>): EnvironmentSelection {
  const { issue, project, agent } = environment;
  if (issue !== undefined) {
    return { environmentId: issue, decidedBy: { source: 'issue', reason: 'the issue names it' } };
  }
  if (project !== undefined) {
    const reason = 'the project names it, and the issue names none';
    return { environmentId: project, decidedBy: { source: 'project', reason } };
  }
  if (agent !== undefined) {
    const reason = 'the agent names it, and neither the issue nor the project names one';
    return { environmentId: agent, decidedBy: { source: 'agent', reason } };
  }
  const reason = 'neither the issue, the project nor the agent names one';
  return { environmentId: undefined, decidedBy: { source: 'company', reason } };
}

/** Why no lease on the environment can be granted in the company; undefined when one can. */
export function rejectionOfEnvironment(
  environment: FoundPlacement['environment'],
  companyId: string,
  environmentId: string | undefined,
): Rejection | undefined {
  if (environment === null) {
    return { code: 'unknown_environment', reason: `there is no environment ${environmentId ?? 'Local'}` };
  }
  if (environment.companyId !== companyId) {
    return { code: 'foreign_environment', reason: `environment ${environment.id} belongs to another company` };
  }
  if (environment.status === 'archived') {
    return { code: 'environment_archived', reason: `environment ${environment.id} is archived` };
  }
  return undefined;
}

/** Why a worker cannot lease the environment; undefined when it can. A service that provisions on its own could. */
export function rejectionOfDriver(
  environment: FoundPlacement['environment'],
  { enabled, drivers }: LeasableEnvironments,
): Rejection | undefined {
  if (environment === null || !hasExternalEffects(environment.driver)) return undefined;
  const what = `environment ${environment.id} is of the kind ${environment.driver}`;
  if (!enabled) {
    const reason = `${what}, and workers lease only Local ones unless they run with ENABLE_ENVIRONMENTS=true`;
    return { code: 'environments_disabled', reason };
  }
  if (drivers.has(environment.driver)) return undefined;
  return { code: 'driver_unavailable', reason: `${what}, for which this worker has no driver` };
}

/** Whether a lease can be granted now, decided from what was read under the company's lock. */
export type Placement =
  | { kind: 'acquire'; lease: NewLease; superseded: WorkspaceHolder | undefined }
  | { kind: 'wait'; heldBy: HeldBy; superseded: WorkspaceHolder | undefined };

/**
 * Decides by single-flight: the execution workspace must be free, or its holder superseded, which means expired or of an
 * ended run, and no other run may have waited for it longer. A superseded holder with external effects is ended, and the
 * run waits until it is cleaned up. Under other policies than ephemeral, and without a workspace, there is no wait.
 *
 * @param taken workspaces granted in the same set, with the run that each went to; the lease's own is added
 */
export function placeLease(
  lease: NewLease,
  { environment, holder, ahead }: Pick<FoundPlacement, 'environment' | 'holder' | 'ahead'>,
  taken: Map<string, string | null>,
): Placement {
  const { executionWorkspaceId } = lease;
  if (lease.leasePolicy !== 'ephemeral' || executionWorkspaceId === undefined) {
    return { kind: 'acquire', lease, superseded: undefined };
  }
  const workspace = `${lease.environmentId} ${executionWorkspaceId}`;
  const wait = (heldBy: Omit<HeldBy, 'executionWorkspaceId'>, superseded?: WorkspaceHolder): Placement => ({
    kind: 'wait',
    heldBy: { executionWorkspaceId, ...heldBy },
    superseded,
  });
  const takenBy = taken.get(workspace);
  if (takenBy !== undefined) return wait({ as: 'holder', runId: takenBy, since: null });
  if (holder !== null) {
    const { runId, acquiredAt: since } = holder;
    if (holder.cleaning) return wait({ as: 'cleanup', runId, since });
    const isSuperseded = holder.expired || holder.runEnded;
    if (!isSuperseded) return wait({ as: 'holder', runId, since });
    if (hasExternalEffects(environment!.driver)) return wait({ as: 'cleanup', runId, since }, holder);
  }
  if (ahead !== null) return wait({ as: 'waiter', ...ahead });
  taken.set(workspace, lease.runId ?? null);
  return { kind: 'acquire', lease, superseded: holder ?? undefined };
}

/** Why a run that would have to wait is rejected instead: it has waited too long; undefined while it may wait. */
export function rejectionOfWait(
  heldBy: HeldBy,
  wait: FoundPlacement['wait'],
  leaseWaitMs: number,
): Rejection | undefined {
  if (wait === null || wait.forMs < leaseWaitMs) return undefined;
  const reason = `${describeHeld(heldBy)}, and the run has waited since ${wait.since}`;
  return { code: 'workspace_held', reason };
}

/** Ends the leases of superseded holders: by the end of their run where it has ended, else as expired. */
export async function endSuperseded(tx: Transaction, holders: readonly WorkspaceHolder[], actor: Actor): Promise<void> {
  if (holders.length === 0) return;
  const ended = holders.filter((holder) => holder.runEnded);
  await endLeasesOfRuns(
    tx,
    ended.flatMap((holder) => holder.runId ?? []),
    actor,
  );
  const expired = holders.filter((holder) => !holder.runEnded);
  await expireLeases(
    tx,
    expired.map((holder) => holder.leaseId),
    'wait',
    actor,
  );
}
