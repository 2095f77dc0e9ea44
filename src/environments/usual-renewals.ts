import type { RunHeartbeat, RunHeartbeatResult } from '../contracts/index.ts';
import { renewSingleLeases } from '../db/statements/renew-single-leases.ts';
import type { RenewedLease } from '../db/statements/renew-single-leases.ts';
import type { UsualKind } from './usual-operations.ts';

/** Heartbeats of runs that hold the one lease they ever had. */
export const usualRenewals: UsualKind<RunHeartbeat, RunHeartbeatResult> = {
  isUsual: () => true,

  prepare: (heartbeats) => ({
    statement: renewSingleLeases(heartbeats),
    results: (rows) =>
      (rows as RenewedLease[]).map(
        ({ runId, id, expiresAt }) => [runId, { runId, leases: [{ id, status: 'active', expiresAt }] }] as const,
      ),
  }),
};
