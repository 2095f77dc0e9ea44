import type { GrantedLease, RunStarted, RunStartedResult } from '../contracts/index.ts';
import { grantNewRuns } from '../db/statements/grant-new-runs.ts';
import type { NewLeaseRow, NewRun } from '../db/statements/grant-new-runs.ts';
import { selectEnvironment } from './selection.ts';
import type { UsualKind } from './usual-operations.ts';

/** New runs that want their company's `Local` and no execution workspace. */
export const usualStarts: UsualKind<RunStarted, RunStartedResult> = {
  isUsual: (start) => start.executionWorkspaceId === undefined && selectEnvironment(start).environmentId === undefined,

  prepare(starts, { actor, defaultTtlSeconds }) {
    const runs = new Map(starts.map((start) => [start.runId, newRun(start, defaultTtlSeconds)]));
    return {
      statement: grantNewRuns([...runs.values()], { environmentSelection: selectEnvironment({}).decidedBy }, actor),
      results: (rows) =>
        (rows as NewLeaseRow[]).map((row) => [row.runId, grantedLease(row, runs.get(row.runId)!)] as const),
    };
  },
};

function newRun(start: RunStarted, defaultTtlSeconds: number): NewRun {
  return {
    ...start,
    leasePolicy: start.leasePolicy ?? 'ephemeral',
    ttlSeconds: start.ttlSeconds ?? defaultTtlSeconds,
  };
}

function grantedLease(row: NewLeaseRow, run: NewRun): GrantedLease {
  return {
    id: row.id,
    companyId: run.companyId,
    runId: run.runId,
    status: 'active',
    leasePolicy: run.leasePolicy,
    executionWorkspaceId: null,
    fencingToken: row.fencingToken,
    ttlSeconds: run.ttlSeconds,
    acquiredAt: row.acquiredAt,
    expiresAt: row.expiresAt,
    failureReason: null,
    environment: { id: row.environmentId, name: row.name, driver: row.driver, leaseId: row.id },
    config: row.config,
    providerLeaseId: null,
  };
}
