import { randomUUID } from 'node:crypto';
import type { TransactionSql } from 'postgres';
import { expect, test } from 'vitest';
import { findDeviations } from '../../testing/audit/expected-runs.ts';
import type { Deviation, Expectation } from '../../testing/audit/expected-runs.ts';
import { tally } from '../../testing/audit/tally.ts';
import type { Tally } from '../../testing/audit/tally.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun } from '../support/factories.ts';
import { rolledBack } from '../support/rolled-back.ts';

const database = useDatabase();

const SUCCEEDS: Expectation = { lease: 'one', statuses: ['succeeded'], rejected: false };

/** A run that succeeded, and its released lease, recorded and explained. */
async function soundRun(sql: TransactionSql) {
  const companyId = await insertCompany(sql);
  const environmentId = await insertEnvironment(sql, { companyId });
  await recordEvent(sql, companyId, 'environment.created', 'environment', environmentId);
  const runId = await insertRun(sql, { companyId, status: 'succeeded' });
  const lease = { companyId, environmentId, runId, status: 'released', cleanupStatus: 'success' } as const;
  const leaseId = await insertLease(sql, lease);
  await recordEvent(sql, companyId, 'environment.lease_released', 'environment_lease', leaseId, runId);
  return { companyId, environmentId, runId, lease, leaseId };
}
type Sound = Awaited<ReturnType<typeof soundRun>>;

async function recordEvent(
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
  for await (const deviation of findDeviations(sql, [{ companyId, runId, expected }])) {
    found.push(deviation);
  }
  return found.map(({ kind, detail }) => `${kind}: ${detail}`);
}

const MISCOUNTS: [
  counted: keyof Tally,
  how: string,
  breakIt: (sql: TransactionSql, sound: Sound) => Promise<unknown>,
][] = [
  [
    'leaked',
    'a lease that has not ended',
    (sql, { lease }) => insertLease(sql, { ...lease, status: 'active', cleanupStatus: null }),
  ],
  [
    'unrecorded',
    'an end without its event',
    (sql) => sql`delete from lessor.activity_log where action = 'environment.lease_released'`,
  ],
  [
    'unrecorded',
    'a grant without its event',
    (sql) => sql`delete from lessor.activity_log where action = 'environment.lease_acquired'`,
  ],
  [
    'unrecorded',
    'an environment without its event',
    (sql) => sql`delete from lessor.activity_log where action = 'environment.created'`,
  ],
  [
    'duplicated',
    'two ends of one lease',
    (sql, { companyId, leaseId, runId }) =>
      recordEvent(sql, companyId, 'environment.lease_expired', 'environment_lease', leaseId, runId),
  ],
  [
    'unexplained',
    'an ended lease without its cleanup',
    async (sql) => {
      await sql`alter table lessor.environment_leases drop constraint environment_leases_explained_check`;
      await sql`update lessor.environment_leases set cleanup_status = null`;
    },
  ],
  ['mismatched', 'a released lease of a failed run', (sql) => sql`update lessor.heartbeat_runs set status = 'failed'`],
];

test.for(MISCOUNTS)('the tally counts as %s: %s', async ([counted, , breakIt]) => {
  await rolledBack(database.sql, async (sql) => {
    const sound = await soundRun(sql);
    expect(await tally(sql)).toMatchObject({
      leases: 1,
      leaked: 0,
      duplicated: 0,
      unrecorded: 0,
      unexplained: 0,
      mismatched: 0,
    });
    await breakIt(sql, sound);
    expect((await tally(sql))[counted]).toBe(1);
  });
});

test('the tally does not count a lease that expired and was revived as duplicated', async () => {
  await rolledBack(database.sql, async (sql) => {
    const { companyId, leaseId, runId } = await soundRun(sql);
    await recordEvent(sql, companyId, 'environment.lease_expired', 'environment_lease', leaseId, runId);
    await sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id, details)
      values (${companyId}, 'test', 'environment.lease_renewed', 'environment_lease', ${leaseId}, ${runId},
        '{"fromStatus": "expired"}')`;
    expect((await tally(sql)).duplicated).toBe(0);
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
  ['lost: the rejection of its lease is not recorded', { ...SUCCEEDS, rejected: true }, async () => undefined],
  ['duplicated: it was granted 2 leases', SUCCEEDS, (sql, { lease }) => insertLease(sql, lease)],
  ['unexpected: it is failed', SUCCEEDS, (sql) => sql`update lessor.heartbeat_runs set status = 'failed'`],
  ['unexpected: it was granted a lease', { ...SUCCEEDS, lease: 'none' }, async () => undefined],
  [
    'unexpected: its lease was rejected',
    SUCCEEDS,
    (sql, { companyId, runId }) =>
      recordEvent(sql, companyId, 'environment.lease_denied', 'heartbeat_run', runId, runId),
  ],
];

test.for(DEVIATIONS)('runs are compared with their expectations: %s', async ([found, expected, breakIt]) => {
  await rolledBack(database.sql, async (sql) => {
    const sound = await soundRun(sql);
    expect(await deviations(sql, sound, SUCCEEDS)).toEqual([]);
    await breakIt(sql, sound);
    expect(await deviations(sql, sound, expected)).toEqual([found]);
  });
});

test('a run that is not recorded is lost', async () => {
  await rolledBack(database.sql, async (sql) => {
    const run = { companyId: randomUUID(), runId: randomUUID(), expected: SUCCEEDS };
    const found: Deviation[] = [];
    for await (const deviation of findDeviations(sql, [run])) found.push(deviation);
    expect(found.map(({ kind, runId, detail }) => ({ kind, runId, detail }))).toContainEqual({
      kind: 'lost',
      runId: run.runId,
      detail: 'it is not recorded',
    });
  });
});
