import type { RunFinished, RunFinishedResult } from '../contracts/index.ts';
import { endRunningRuns } from '../db/statements/end-running-runs.ts';
import type { RunEndRow } from '../db/statements/end-running-runs.ts';
import type { UsualKind } from './usual-operations.ts';

/** Runs that end while they are running. */
export const usualEnds: UsualKind<RunFinished, RunFinishedResult> = {
  isUsual: () => true,

  prepare: (finishes, { actor }) => ({
    statement: endRunningRuns(finishes, actor),
    results(rows) {
      const results = new Map<string, RunFinishedResult>();
      for (const { runId, runStatus, leaseId, leaseStatus } of rows as RunEndRow[]) {
        if (leaseId === null) results.set(runId, { runId, status: runStatus, leases: [] });
        else results.get(runId)!.leases.push({ id: leaseId, status: leaseStatus });
      }
      return results;
    },
  }),
};
