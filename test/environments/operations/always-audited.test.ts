import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { sqlErrorOf } from '../../../src/db/sql-errors.ts';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished, runHeartbeat, runStarted } from '../../support/factories.ts';
import { operationsOn, start, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

describe('always-audited', () => {
  test.for(['lease_acquired', 'lease_released', 'lease_failed', 'lease_retained', 'lease_expired', 'lease_renewed'])(
    'where %s cannot be told, the transition does not happen',
    async (action) => {
      const payload = runStarted({ leasePolicy: 'retain_on_failure', executionWorkspaceId: randomUUID() });
      const ephemeral = runStarted({ companyId: payload.companyId, executionWorkspaceId: randomUUID() });
      const expiredOne = runStarted({ companyId: payload.companyId, executionWorkspaceId: randomUUID() });
      await operations.apply([start(payload), start(ephemeral)]);
      const expired = await operations.granted(expiredOne);
      await backdateExpiry(database.sql, expired.id);
      const attempts: Record<string, () => Promise<unknown>> = {
        lease_acquired: () => operations.start(runStarted({ companyId: payload.companyId })),
        lease_released: () => operations.finish(runFinished(payload)),
        lease_failed: () => operations.finish(runFinished(ephemeral, { status: 'failed' })),
        lease_retained: () => operations.finish(runFinished(payload, { status: 'failed' })),
        lease_expired: () => operations.start({ ...expiredOne, runId: randomUUID() }),
        lease_renewed: () => operations.renew(runHeartbeat(expiredOne)),
      };
      const everything = async () => ({
        runs: [
          ...(await database.sql`select * from lessor.heartbeat_runs where company_id = ${payload.companyId} order by id`),
        ],
        leases: [
          ...(await database.sql`select * from lessor.environment_leases where company_id = ${payload.companyId} order by id`),
        ],
        told: await eventsOf(database.sql, payload.companyId),
      });
      const before = await everything();
      await muted(payload.companyId, action, async () => {
        const error: unknown = await attempts[action]!().catch((reason: unknown) => reason);
        expect(sqlErrorOf(error)?.message).toBe('this cannot be told');
      });
      expect(await everything()).toEqual(before);
      await attempts[action]!();
      expect((await everything()).told).toContain(action);
      // What is left expired would be the sweep's to end.
      await operations.finish(runFinished(expiredOne));
    },
  );
});

/** Makes Postgres reject an event of a company meanwhile. */
async function muted(companyId: string, action: string, meanwhile: () => Promise<void>): Promise<void> {
  await database.sql.unsafe(`
    create or replace function refuse_event() returns trigger language plpgsql as
      $$ begin raise exception 'this cannot be told'; end $$;
    create trigger refuse_event before insert on lessor.activity_log for each row
      when (new.company_id = '${companyId}' and new.action = 'environment.${action}')
      execute function refuse_event()`);
  try {
    await meanwhile();
  } finally {
    await database.sql`drop trigger refuse_event on lessor.activity_log`;
  }
}
