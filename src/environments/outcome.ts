import type { GrantedLease, Rejection } from '../contracts/index.ts';

/** Who keeps a run waiting. */
export interface HeldBy {
  executionWorkspaceId: string;
  /** Whether that run has the workspace, left it to be cleaned up, or waits for it too and has done so for longer. */
  as: 'holder' | 'cleanup' | 'waiter';
  runId: string | null;
  /** Null for a run that was granted the workspace at this very moment. */
  since: string | null;
}

/** How an operation came out. Errors that are not the operation's own are thrown instead. */
export type Outcome<Result> =
  | { kind: 'done'; result: Result }
  /** For good, with the reason. */
  | { kind: 'rejected'; rejection: Rejection }
  /** The execution workspace is held by another run: to be tried again later. */
  | { kind: 'waiting'; heldBy: HeldBy; since: string }
  /** The lease is pending: its driver is to acquire it. */
  | { kind: 'acquiring'; lease: GrantedLease }
  /** The lease has ended but for its cleanup: its driver is to do that. */
  | { kind: 'cleaning'; lease: GrantedLease; provider: string }
  /** Not yet: to be tried again a little later, which spends no attempt. */
  | { kind: 'postponed'; reason: string }
  /** Not now, with the reason: to be retried with backoff, by whichever replica takes it then. */
  | { kind: 'unavailable'; reason: string };

export function done<Result>(result: Result): Outcome<Result> {
  return { kind: 'done', result };
}

/** Who holds a workspace since when, in words. */
export function describeHeld({ executionWorkspaceId, as, runId, since }: HeldBy): string {
  const workspace = `execution workspace ${executionWorkspaceId}`;
  if (as === 'waiter') return `${workspace} is kept for run ${runId}, which waits for it since ${since}`;
  const holder = runId === null ? 'a lease without a run' : `run ${runId}`;
  if (as === 'cleanup') return `${workspace} is being cleaned up after ${holder}, which held it since ${since}`;
  return `${workspace} is held by ${holder} since ${since ?? 'just now'}`;
}
