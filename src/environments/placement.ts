import type { Transaction } from '../db/connection.ts';
import type { NewLease } from '../db/statements/acquire-leases.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endLeasesOfRuns, expireLapsedLeases } from '../db/statements/end-leases.ts';
import type { WorkspaceHolder } from '../db/statements/read-placements.ts';
import type { HeldBy } from './outcome.ts';

/** Whether a lease can be made now, decided from what was read under the company's lock. */
export type Placing =
  { kind: 'acquire'; lease: NewLease; superseded: WorkspaceHolder | undefined } | { kind: 'waiting'; heldBy: HeldBy };

/**
 * Decides by single-flight: the execution workspace must be free, or its holder past its time. Other policies than
 * ephemeral, and leases without a workspace, are always placed.
 *
 * @param taken workspaces given away in the same set, with the run that each went to; the lease's own is added
 */
export function place(lease: NewLease, holder: WorkspaceHolder | null, taken: Map<string, string | null>): Placing {
  const { executionWorkspaceId } = lease;
  if (lease.leasePolicy !== 'ephemeral' || executionWorkspaceId === undefined) {
    return { kind: 'acquire', lease, superseded: undefined };
  }
  const workspace = `${lease.environmentId} ${executionWorkspaceId}`;
  const takenBy = taken.get(workspace);
  if (takenBy !== undefined) return { kind: 'waiting', heldBy: { executionWorkspaceId, runId: takenBy, since: null } };
  if (holder !== null && !holder.lapsed && !holder.runEnded) {
    return { kind: 'waiting', heldBy: { executionWorkspaceId, runId: holder.runId, since: holder.acquiredAt } };
  }
  taken.set(workspace, lease.runId ?? null);
  return { kind: 'acquire', lease, superseded: holder ?? undefined };
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
