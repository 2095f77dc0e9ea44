import { sweepLeases } from '../../../src/consumers/sweep/leases.ts';
import type { LeaseSweepResult } from '../../../src/consumers/sweep/leases.ts';
import type { RunStatus } from '../../../src/contracts/index.ts';
import type { TestDatabase } from '../../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun, backdateExpiry } from '../../support/factories.ts';
import type { LeaseRow } from '../../support/factories.ts';
import { readLease } from '../../support/operations.ts';
import { silentLogger } from '../fixture.ts';

/** The result of a lease sweep: zero except for the given counts. */
export const swept = (counts: Partial<LeaseSweepResult> = {}): LeaseSweepResult => ({
  orphaned: 0,
  expired: 0,
  abandoned: 0,
  failed: 0,
  ...counts,
});

/** The lease sweep on the database of a test file, and leases for it to find. */
export function useLeaseSweep(database: TestDatabase) {
  const sweep = (batchSize = 500) =>
    sweepLeases({
      db: database.db,
      actor: { type: 'system', id: 'sweep' },
      logger: silentLogger,
      requestReleases: async () => undefined,
      batchSize,
    });

  /** A company with an environment, and leases of running runs on it. */
  const companyWithLeases = async (count: number, lease: Partial<LeaseRow> = {}) => {
    const { sql } = database;
    const companyId = await insertCompany(sql);
    const environmentId = await insertEnvironment(sql, { companyId });
    const leases: { id: string; runId: string }[] = [];
    for (let number = 0; number < count; number += 1) {
      const runId = await insertRun(sql, { companyId });
      leases.push({ runId, id: await insertLease(sql, { companyId, environmentId, runId, ...lease }) });
    }
    return { companyId, environmentId, leases, ids: leases.map(({ id }) => id) };
  };

  /** Ends a run without ending its leases. */
  const endRun = async (runId: string, status: RunStatus, failureReason: string | null = null): Promise<void> => {
    await database.sql`
      update lessor.heartbeat_runs set status = ${status}, failure_reason = ${failureReason}, finished_at = now()
      where id = ${runId}`;
  };

  const expireAll = async (ids: readonly string[]): Promise<void> => {
    for (const [age, id] of ids.entries()) await backdateExpiry(database.sql, id, age + 1);
  };

  const statusesOf = async (ids: readonly string[]): Promise<string[]> => {
    const states = await Promise.all(ids.map((id) => readLease(database.sql, id)));
    return states.map(({ status }) => status);
  };

  /** Does work while a trigger rejects updates of leases for which the condition on the row `new` holds. */
  const whileRejected = async (condition: string, work: () => Promise<void>): Promise<void> => {
    await database.sql.unsafe(`
      create function lessor.reject_lease() returns trigger language plpgsql as $$
        begin raise exception 'rejected by a trigger'; end $$;
      create trigger reject_lease before update on lessor.environment_leases
        for each row when (${condition}) execute function lessor.reject_lease()`);
    try {
      await work();
    } finally {
      await database.sql`drop function lessor.reject_lease cascade`;
    }
  };

  return { whileRejected, sweep, companyWithLeases, endRun, expireAll, statusesOf };
}
