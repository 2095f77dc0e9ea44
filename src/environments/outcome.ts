import type { Refusal } from '../contracts/index.ts';

/** Who keeps a run waiting. */
export interface HeldBy {
  executionWorkspaceId: string;
  /** Whether that run has the workspace, or waits for it too and has done so for longer. */
  as: 'holder' | 'waiter';
  runId: string | null;
  /** Null for a run that was granted the workspace at this very moment. */
  since: string | null;
}

/** How an operation came out. Errors that are not the operation's own are thrown instead. */
export type Outcome<Result> =
  | { kind: 'done'; result: Result }
  /** For good, with the reason. */
  | { kind: 'refused'; refusal: Refusal }
  /** The execution workspace is held by another run: to be tried again later. */
  | { kind: 'waiting'; heldBy: HeldBy; since: string }
  /** Not by this replica now, with the reason: to be retried with backoff, by whichever replica takes it then. */
  | { kind: 'unavailable'; reason: string };

export function done<Result>(result: Result): Outcome<Result> {
  return { kind: 'done', result };
}

/** Who holds a workspace since when, in words. */
export function describeHeld({ executionWorkspaceId, as, runId, since }: HeldBy): string {
  const workspace = `execution workspace ${executionWorkspaceId}`;
  if (as === 'waiter') return `${workspace} is kept for run ${runId}, which waits for it since ${since}`;
  const holder = runId === null ? 'a lease without a run' : `run ${runId}`;
  return `${workspace} is held by ${holder} since ${since ?? 'just now'}`;
}
