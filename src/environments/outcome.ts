import type { Refusal } from '../contracts/index.ts';

/** Who keeps a run waiting. `since` is null for a run that was granted the workspace at this very moment. */
export interface HeldBy {
  executionWorkspaceId: string;
  runId: string | null;
  since: string | null;
}

/** How an operation came out. Errors that are not the operation's own are thrown instead. */
export type Outcome<Result> =
  | { kind: 'done'; result: Result }
  /** For good, with the reason. */
  | { kind: 'refused'; refusal: Refusal }
  /** The execution workspace is held by another run: to be tried again later. */
  | { kind: 'waiting'; heldBy: HeldBy };

export function done<Result>(result: Result): Outcome<Result> {
  return { kind: 'done', result };
}

/** Who holds a workspace since when, in words. */
export function describeHeld({ executionWorkspaceId, runId, since }: HeldBy): string {
  const holder = runId === null ? 'a lease without a run' : `run ${runId}`;
  return `execution workspace ${executionWorkspaceId} is held by ${holder} since ${since ?? 'just now'}`;
}
