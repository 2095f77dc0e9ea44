import { z } from 'zod';
import { describeHeld } from '../environments/outcome.ts';
import type { HeldBy } from '../environments/outcome.ts';

/** A job's progress while it waits for its execution workspace: what an operator sees of it in the dashboard. */
const workspaceWaitSchema = z.object({
  waitingSince: z.number(),
  heldBy: z.object({ executionWorkspaceId: z.string(), runId: z.string().nullable(), since: z.string().nullable() }),
});
export type WorkspaceWait = z.infer<typeof workspaceWaitSchema>;

/** The wait as it stands: begun now, unless the job's progress says that it has begun before. */
export function readWait(progress: unknown, heldBy: HeldBy, now: number): WorkspaceWait {
  const before = workspaceWaitSchema.safeParse(progress);
  return { waitingSince: before.success ? before.data.waitingSince : now, heldBy };
}

export function waitedTooLong(wait: WorkspaceWait, now: number, leaseWaitMs: number): boolean {
  return now - wait.waitingSince >= leaseWaitMs;
}

/** Why a run is refused that has waited too long. */
export function describeWait(wait: WorkspaceWait): string {
  return `${describeHeld(wait.heldBy)}, and the run has waited since ${new Date(wait.waitingSince).toISOString()}`;
}
