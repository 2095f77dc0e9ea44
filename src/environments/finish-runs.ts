import { isTerminal } from '../contracts/index.ts';
import type { CompanyStatus, RunFinished, RunFinishedResult } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endLeasesOfRuns } from '../db/statements/end-leases.ts';
import { readRuns, recordEndedRuns } from '../db/statements/record-runs.ts';
import { done } from './outcome.ts';
import type { Outcome } from './outcome.ts';
import { rejectionOfRun, rejectionOfUnknownCompany } from './rejections.ts';

/**
 * Ends each run that has finished and its leases with it, all of them with one set of statements. The companies'
 * locks must be held. Each run may be given once. Outcomes are in the order given.
 */
export async function finishRuns(
  tx: Transaction,
  finishes: readonly RunFinished[],
  companies: ReadonlyMap<string, CompanyStatus>,
  actor: Actor,
): Promise<Outcome<RunFinishedResult>[]> {
  const known = finishes.filter((finish) => companies.has(finish.companyId));
  await recordEndedRuns(tx, known);
  const runs = await readRuns(
    tx,
    finishes.map((finish) => finish.runId),
  );
  const own = known.filter((finish) => rejectionOfRun(runs.get(finish.runId), finish) === undefined);
  const ended = await endLeasesOfRuns(
    tx,
    own.map((finish) => finish.runId),
    actor,
  );
  return finishes.map(({ companyId, runId }) => {
    const run = runs.get(runId);
    const rejection = rejectionOfUnknownCompany(companies, companyId) ?? rejectionOfRun(run, { companyId, runId });
    if (rejection !== undefined) return { kind: 'rejected', rejection };
    if (run === undefined || !isTerminal(run.status)) throw new Error(`run ${runId} has no end after it was recorded`);
    const leases = ended.filter((lease) => lease.runId === runId).map(({ id, status }) => ({ id, status }));
    return done({ runId, status: run.status, leases });
  });
}
