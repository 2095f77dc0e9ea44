import { randomUUID } from 'node:crypto';
import type postgres from 'postgres';
import { expect, test } from 'vitest';
import { audit } from '../../testing/audit/invariants.ts';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun, backdateExpiry } from '../support/factories.ts';
import type { LeaseRow } from '../support/factories.ts';
import { rolledBack } from '../support/rolled-back.ts';

const database = useDatabase();

/** A company with an environment and a run that holds a lease, without any violation. */
async function soundCompany(sql: postgres.TransactionSql) {
  const companyId = await insertCompany(sql);
  const environmentId = await insertEnvironment(sql, { companyId });
  const runId = await insertRun(sql, { companyId });
  const lease = (row: Partial<LeaseRow> = {}) => insertLease(sql, { companyId, environmentId, runId, ...row });
  return { companyId, environmentId, runId, lease, leaseId: await lease() };
}

type Sound = Awaited<ReturnType<typeof soundCompany>>;
type Break = (sql: postgres.TransactionSql, sound: Sound) => Promise<unknown>;

const BREAKS: [invariant: string, how: string, breakIt: Break][] = [
  ['one-local', 'two local environments', (sql, { companyId }) => insertEnvironment(sql, { companyId })],
  ['one-lease', 'two live leases of a run', (_, { lease }) => lease()],
  [
    'same-company',
    'a foreign environment',
    async (sql, { lease }) =>
      lease({
        runId: null,
        environmentId: await insertEnvironment(sql, { companyId: await insertCompany(sql) }),
      }),
  ],
  [
    'no-leak',
    'a live lease of an ended run',
    (sql, { runId }) =>
      sql`update lessor.heartbeat_runs set status = 'failed', finished_at = now() where id = ${runId}`,
  ],
  ['no-leak', 'an expired lease', (sql, { leaseId }) => backdateExpiry(sql, leaseId)],
  [
    'always-bounded',
    'a lease without an end',
    (sql, { leaseId }) => sql`update lessor.environment_leases set expires_at = null where id = ${leaseId}`,
  ],
  [
    'always-audited',
    'a lease without its event',
    (sql, { leaseId }) => sql`delete from lessor.activity_log where entity_id = ${leaseId}`,
  ],
  [
    'always-audited',
    'an end without its event',
    (sql, { leaseId }) => sql`
      update lessor.environment_leases set status = 'released', cleanup_status = 'success', released_at = now()
      where id = ${leaseId}`,
  ],
  [
    'always-audited',
    'an event of another company',
    async (sql, { leaseId }) => sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id)
      values (${await insertCompany(sql)}, 'test', 'environment.lease_renewed', 'environment_lease', ${leaseId})`,
  ],
  [
    'always-audited',
    'a revival without an expiry before it',
    async (sql, { leaseId, companyId, runId }) => sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id, details)
      values (${companyId}, 'test', 'environment.lease_renewed', 'environment_lease', ${leaseId}, ${runId},
        '{"fromStatus": "expired"}')`,
  ],
  [
    'always-audited',
    'a revival without its event',
    async (sql, { leaseId, companyId, runId }) => sql`
      insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
      values (${companyId}, 'test', 'environment.lease_expired', 'environment_lease', ${leaseId}, ${runId})`,
  ],
  [
    'always-explained',
    'a failure without reason',
    async (sql, { leaseId, companyId, runId }) => {
      await sql`
        update lessor.environment_leases set status = 'failed', cleanup_status = 'success', released_at = now()
        where id = ${leaseId}`;
      await sql`
        insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
        values (${companyId}, 'test', 'environment.lease_failed', 'environment_lease', ${leaseId}, ${runId})`;
    },
  ],
  [
    'single-flight',
    'two live leases of a workspace',
    async (_, { lease }) => {
      const executionWorkspaceId = randomUUID();
      for (const runId of [null, null]) await lease({ runId, executionWorkspaceId });
    },
  ],
  [
    'fenced',
    'a token assigned twice',
    async (_, { lease }) => {
      for (const fencingToken of [1_000_000, 1_000_000]) await lease({ runId: null, fencingToken });
    },
  ],
  [
    'fenced',
    'a later token with an earlier acquisition',
    async (sql, { lease }) => {
      const id = await lease({ runId: null });
      await sql`update lessor.environment_leases set acquired_at = now() - interval '1 h' where id = ${id}`;
    },
  ],
];

test.for(BREAKS)('the audit reports %s for %s, and no other invariant', async ([invariant, , breakIt]) => {
  const found = await rolledBack(database.sql, async (sql) => {
    await removeConstraints(sql);
    const sound = await soundCompany(sql);
    expect(await audit(sql)).toEqual([]);
    await breakIt(sql, sound);
    return audit(sql);
  });
  expect(found).toMatchObject([{ invariant }]);
  expect(found[0]?.detail).toMatch(/[0-9a-f-]{36}/);
});

test('the audit tolerates an expired lease for the grace period of the sweep', async () => {
  const counts = await rolledBack(database.sql, async (sql) => {
    const { leaseId } = await soundCompany(sql);
    await backdateExpiry(sql, leaseId, 30);
    return [(await audit(sql, { graceSeconds: 60 })).length, (await audit(sql, { graceSeconds: 10 })).length];
  });
  expect(counts).toEqual([0, 1]);
});

/** Drops the constraints that would reject the violations. */
async function removeConstraints(sql: postgres.TransactionSql): Promise<void> {
  for (const constraint of ['environment_fk', 'run_fk', 'explained_check']) {
    await sql.unsafe(`alter table lessor.environment_leases drop constraint environment_leases_${constraint}`);
  }
  await sql`alter table lessor.environment_leases alter expires_at drop not null`;
  const indexes = [
    'environments_one_local',
    ...['one_lease', 'single_flight', 'fenced'].map((name) => `environment_leases_${name}`),
  ];
  for (const index of indexes) await sql.unsafe(`drop index lessor.${index}`);
}
