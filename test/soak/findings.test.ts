import { randomUUID } from 'node:crypto';
import type { TransactionSql } from 'postgres';
import { expect, test } from 'vitest';
import { findDeviations } from '../../soak/audit-plans.ts';
import type { Deviation } from '../../soak/audit-plans.ts';
import { count } from '../../soak/count.ts';
import type { Counts } from '../../soak/count.ts';
import type { Expectation } from '../../soak/plan.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun } from '../support/factories.ts';
import { rolledBack } from '../support/rolled-back.ts';

const database = useDatabase();

const SUCCEEDS: Expectation = { lease: 'one', statuses: ['succeeded'], denied: false };

/** A run that succeeded, and its released lease, told and explained. */
async function soundRun(sql: TransactionSql) {
  const companyId = await insertCompany(sql);
  const environmentId = await insertEnvironment(sql, { companyId });
  await tell(sql, companyId, 'environment.created', 'environment', environmentId);
  const runId = await insertRun(sql, { companyId, status: 'succeeded' });
  const lease = { companyId, environmentId, runId, status: 'released', cleanupStatus: 'success' } as const;
  const leaseId = await insertLease(sql, lease);
  await tell(sql, companyId, 'environment.lease_released', 'environment_lease', leaseId, runId);
  return { companyId, environmentId, runId, lease, leaseId };
}
type Sound = Awaited<ReturnType<typeof soundRun>>;

async function tell(
  sql: TransactionSql,
  companyId: string,
  action: string,
  entityType: string,
  entityId: string,
  runId: string | null = null,
): Promise<void> {
  await sql`insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
    values (${companyId}, 'test', ${action}, ${entityType}, ${entityId}, ${runId})`;
}

async function deviations(sql: TransactionSql, { companyId, runId }: Sound, expected: Expectation) {
  const found: Deviation[] = [];
  for await (const deviation of findDeviations(sql, [{ companyId, runId, steps: [], expected }], () => true)) {
    found.push(deviation);
  }
  return found.map(({ kind, detail }) => `${kind}: ${detail}`);
}

const MISCOUNTS: [
  counted: keyof Counts,
  how: string,
  breakIt: (sql: TransactionSql, sound: Sound) => Promise<unknown>,
][] = [
  [
    'leaked',
    'a lease that has not ended',
    (sql, { lease }) => insertLease(sql, { ...lease, status: 'active', cleanupStatus: null }),
  ],
  [
    'suppressed',
    'an end without its event',
    (sql) => sql`delete from lessor.activity_log where action = 'environment.lease_released'`,
  ],
  [
    'suppressed',
    'a grant without its event',
    (sql) => sql`delete from lessor.activity_log where action = 'environment.lease_acquired'`,
  ],
  [
    'suppressed',
    'an environment without its event',
    (sql) => sql`delete from lessor.activity_log where action = 'environment.created'`,
  ],
  [
    'doubled',
    'an end told twice',
    (sql, { companyId, leaseId, runId }) =>
      tell(sql, companyId, 'environment.lease_expired', 'environment_lease', leaseId, runId),
  ],
  [
    'unexplained',
    'an ended lease without its cleanup',
    async (sql) => {
      await sql`alter table lessor.environment_leases drop constraint environment_leases_explained_check`;
      await sql`update lessor.environment_leases set cleanup_status = null`;
    },
  ],
  ['misended', 'a released lease of a failed run', (sql) => sql`update lessor.heartbeat_runs set status = 'failed'`],
];

test.for(MISCOUNTS)('the soak counts as %s %s', async ([counted, , breakIt]) => {
  await rolledBack(database.sql, async (sql) => {
    const sound = await soundRun(sql);
    expect(await count(sql)).toMatchObject({
      leases: 1,
      leaked: 0,
      doubled: 0,
      suppressed: 0,
      unexplained: 0,
      misended: 0,
    });
    await breakIt(sql, sound);
    expect((await count(sql))[counted]).toBe(1);
  });
});

test('the soak does not count a lease that expired and was revived as told twice', async () => {
  await rolledBack(database.sql, async (sql) => {
    const { companyId, leaseId, runId } = await soundRun(sql);
    await tell(sql, companyId, 'environment.lease_expired', 'environment_lease', leaseId, runId);
    await sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id, details)
      values (${companyId}, 'test', 'environment.lease_renewed', 'environment_lease', ${leaseId}, ${runId},
        '{"fromStatus": "expired"}')`;
    expect((await count(sql)).doubled).toBe(0);
  });
});

const DEVIATIONS: [
  found: string,
  expected: Expectation,
  breakIt: (sql: TransactionSql, sound: Sound) => Promise<unknown>,
][] = [
  ['lost: it was granted no lease', SUCCEEDS, (sql) => sql`delete from lessor.environment_leases`],
  [
    'lost: it has not ended',
    SUCCEEDS,
    (sql) => sql`update lessor.heartbeat_runs set status = 'running', finished_at = null`,
  ],
  ['lost: nobody was told that it was denied a lease', { ...SUCCEEDS, denied: true }, async () => undefined],
  ['doubled: it was granted 2 leases', SUCCEEDS, (sql, { lease }) => insertLease(sql, lease)],
  ['unplanned: it is failed', SUCCEEDS, (sql) => sql`update lessor.heartbeat_runs set status = 'failed'`],
  ['unplanned: it was granted a lease', { ...SUCCEEDS, lease: 'none' }, async () => undefined],
  [
    'unplanned: it was denied a lease',
    SUCCEEDS,
    (sql, { companyId, runId }) => tell(sql, companyId, 'environment.lease_denied', 'heartbeat_run', runId, runId),
  ],
];

test.for(DEVIATIONS)('the soak finds against the plan: %s', async ([found, expected, breakIt]) => {
  await rolledBack(database.sql, async (sql) => {
    const sound = await soundRun(sql);
    expect(await deviations(sql, sound, SUCCEEDS)).toEqual([]);
    await breakIt(sql, sound);
    expect(await deviations(sql, sound, expected)).toEqual([found]);
  });
});

test('the soak finds a published run that is not in the ledger, and says nothing of one that was not published', async () => {
  await rolledBack(database.sql, async (sql) => {
    const plans = [randomUUID(), randomUUID()].map((runId) => {
      return { companyId: randomUUID(), runId, steps: [], expected: SUCCEEDS };
    });
    const found: Deviation[] = [];
    for await (const deviation of findDeviations(sql, plans, (plan) => plan === plans[0])) found.push(deviation);
    expect(found.map(({ kind, runId, detail }) => ({ kind, runId, detail }))).toContainEqual({
      kind: 'lost',
      runId: plans[0]!.runId,
      detail: 'it is not in the ledger',
    });
    expect(new Set(found.map(({ runId }) => runId))).toEqual(new Set([plans[0]!.runId]));
  });
});
