import { LeaseDeniedError } from '../contracts/index.ts';
import type { RefusalCode } from '../contracts/index.ts';
import type { HeldBy } from './outcome.ts';

/** Refuses an operation of the environment service, with the codes that jobs are refused with. */
export function denied(code: RefusalCode, reason: string): LeaseDeniedError {
  return new LeaseDeniedError({ code, reason });
}

/** Another live run holds the execution workspace; its caller may try again later. */
export function workspaceHeld(executionWorkspaceId: string, heldBy: HeldBy): LeaseDeniedError {
  return denied('workspace_held', describeHeld(executionWorkspaceId, heldBy));
}

/** Who holds a workspace since when, in words. */
export function describeHeld(executionWorkspaceId: string | undefined, heldBy: HeldBy): string {
  const holder = heldBy.runId === null ? 'a lease without a run' : `run ${heldBy.runId}`;
  const since = heldBy.since === null ? 'just now' : heldBy.since;
  return `execution workspace ${executionWorkspaceId} is held by ${holder} since ${since}`;
}
