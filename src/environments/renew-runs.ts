import type { CompanyStatus, RunHeartbeat, RunHeartbeatResult } from '../contracts/index.ts';
import type { Transaction } from '../db/connection.ts';
import type { Actor } from '../db/statements/activity.ts';
import { readRuns } from '../db/statements/record-runs.ts';
import { readRunLeases, renewLeases } from '../db/statements/renew-leases.ts';
import { done } from './outcome.ts';
import type { Outcome } from './outcome.ts';
import { rejectionOfRun, rejectionOfUnknownCompany } from './rejections.ts';

/**
 * Renews the leases of each run that is alive, all of them with one set of statements. The companies' locks must be
 * held. Each run may be given once. Outcomes are in the order given.
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
