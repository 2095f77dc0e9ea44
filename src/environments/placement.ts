import type { Rejection } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import type { NewLease } from '../db/statements/acquire-leases.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endLeasesOfRuns, expireLapsedLeases } from '../db/statements/end-leases.ts';
import type { FoundPlacement, WorkspaceHolder } from '../db/statements/read-placements.ts';
import { isWithoutOutsideEffects } from './drivers/outside-effects.ts';
import { describeHeld } from './outcome.ts';
import type { HeldBy } from './outcome.ts';

/** Whether a lease can be made now, decided from what was read under the company's lock. */
export type Placing =
  | { kind: 'acquire'; lease: NewLease; superseded: WorkspaceHolder | undefined }
  | { kind: 'wait'; heldBy: HeldBy; superseded: WorkspaceHolder | undefined };

/**
 * Decides by single-flight: the execution workspace must be free, or its holder past its time, and nobody may have
 * waited for it longer. Where a driver has to clean up after a holder, what is past its time is ended, and waited for
 * until that is done. Other policies than ephemeral, and leases without a workspace, are always placed.
 *
 * @param taken workspaces given away in the same set, with the run that each went to; the lease's own is added
 */
export function place(
  lease: NewLease,
  { environment, holder, ahead }: Pick<FoundPlacement, 'environment' | 'holder' | 'ahead'>,
  taken: Map<string, string | null>,
): Placing {
  const { executionWorkspaceId } = lease;
  if (lease.leasePolicy !== 'ephemeral' || executionWorkspaceId === undefined) {
    return { kind: 'acquire', lease, superseded: undefined };
  }
  const workspace = `${lease.environmentId} ${executionWorkspaceId}`;
  const wait = (heldBy: Omit<HeldBy, 'executionWorkspaceId'>, superseded?: WorkspaceHolder): Placing => ({
    kind: 'wait',
    heldBy: { executionWorkspaceId, ...heldBy },
    superseded,
  });
  const takenBy = taken.get(workspace);
  if (takenBy !== undefined) return wait({ as: 'holder', runId: takenBy, since: null });
  if (holder !== null) {
    const { runId, acquiredAt: since } = holder;
    if (holder.cleaning) return wait({ as: 'cleanup', runId, since });
    const isPastItsTime = holder.lapsed || holder.runEnded;
    if (!isPastItsTime) return wait({ as: 'holder', runId, since });
    if (!isWithoutOutsideEffects(environment!.driver)) return wait({ as: 'cleanup', runId, since }, holder);
  }
  if (ahead !== null) return wait({ as: 'waiter', ...ahead });
  taken.set(workspace, lease.runId ?? null);
  return { kind: 'acquire', lease, superseded: holder ?? undefined };
}

/** Why a run that would have to wait is refused instead: it has waited too long; undefined while it may still wait. */
export function rejectionOfWait(
  heldBy: HeldBy,
  wait: FoundPlacement['wait'],
  leaseWaitMs: number,
): Rejection | undefined {
  if (wait === null || wait.forMs < leaseWaitMs) return undefined;
  const reason = `${describeHeld(heldBy)}, and the run has waited since ${wait.since}`;
  return { code: 'workspace_held', reason };
}

/** Ends the leases of superseded holders: as their run's end says where it has ended, else as expired. */
export async function endSuperseded(tx: Transaction, holders: readonly WorkspaceHolder[], actor: Actor): Promise<void> {
  if (holders.length === 0) return;
  const ended = holders.filter((holder) => holder.runEnded);
  await endLeasesOfRuns(
    tx,
    ended.flatMap((holder) => holder.runId ?? []),
    actor,
  );
  const lapsed = holders.filter((holder) => !holder.runEnded);
  await expireLapsedLeases(
    tx,
    lapsed.map((holder) => holder.leaseId),
    'wait',
    actor,
  );
}
