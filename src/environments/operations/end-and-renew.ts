import { isTerminal } from '../../contracts/index.ts';
import type {
  CompanyStatus,
  RunFinished,
  RunFinishedResult,
  RunHeartbeat,
  RunHeartbeatResult,
} from '../../contracts/index.ts';
import type { Transaction } from '../../db/connection.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { endLeasesOfRuns } from '../../db/statements/end-leases.ts';
import { readRunLeases, renewLeases } from '../../db/statements/renew-leases.ts';
import { readRuns, recordEndedRuns } from '../../db/statements/runs.ts';
import { done, rejectionOfRun, rejectionOfUnknownCompany } from './operation.ts';
import type { Outcome } from './operation.ts';

/**
 * Ends each run that has finished, and its leases with it, with one set of statements (first-end-wins, no-leak). The
 * companies' locks must be held. Each run may be given once. Outcomes are in the order given.
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

/**
 * Renews the leases of each run, with one set of statements. The companies' locks must be held. Each run may be given once.
 * Outcomes are in the order given.
 */
export async function renewRuns(
  tx: Transaction,
  heartbeats: readonly RunHeartbeat[],
  companies: ReadonlyMap<string, CompanyStatus>,
  actor: Actor,
): Promise<Outcome<RunHeartbeatResult>[]> {
  await renewLeases(tx, heartbeats, actor);
  const runIds = heartbeats.map((heartbeat) => heartbeat.runId);
  const runs = await readRuns(tx, runIds);
  const held = await readRunLeases(tx, runIds);
  return heartbeats.map((heartbeat) => {
    const { companyId, runId } = heartbeat;
    const rejection = rejectionOfUnknownCompany(companies, companyId) ?? rejectionOfRun(runs.get(runId), heartbeat);
    if (rejection !== undefined) return { kind: 'rejected', rejection };
    const leases = held
      .filter((lease) => lease.runId === runId)
      .map(({ id, status, expiresAt }) => ({ id, status, expiresAt }));
    return done({ runId, leases });
  });
}
