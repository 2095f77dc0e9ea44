import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun } from '../support/factories.ts';
import type { LeaseRow } from '../support/factories.ts';
import { postgresErrorOf } from '../support/postgres-errors.ts';

const database = useDatabase();

let companyId: string;
let environmentId: string;
let runId: string;

beforeEach(async () => {
  companyId = await insertCompany(database.sql);
  environmentId = await insertEnvironment(database.sql, { companyId });
  runId = await insertRun(database.sql, { companyId });
});

const lease = (row: Partial<LeaseRow> = {}) => insertLease(database.sql, { companyId, environmentId, runId, ...row });
const constraintOf = async (attempt: PromiseLike<unknown>) => (await postgresErrorOf(attempt)).constraint_name;

const insertRejection = () => database.sql`
  insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id)
  values (${companyId}, 'test', 'environment.lease_denied', 'heartbeat_run', ${runId}, ${runId})`;

describe('Postgres itself rejects what would break', () => {
  test('one-local: a second local environment, even beside an archived one', async () => {
    const second = () => insertEnvironment(database.sql, { companyId, name: 'Other' });
    expect(await constraintOf(second())).toBe('environments_one_local');
    await database.sql`update lessor.environments set status = 'archived' where id = ${environmentId}`;
    expect(await constraintOf(second())).toBe('environments_one_local');
    for (const name of ['one', 'two']) await insertEnvironment(database.sql, { companyId, driver: 'ssh', name });
  });

  test('one-lease: a second live lease of a run on an environment', async () => {
    await lease({ status: 'released', cleanupStatus: 'success' });
    await lease();
    expect(await constraintOf(lease())).toBe('environment_leases_one_lease');
    expect(await constraintOf(lease({ status: 'pending' }))).toBe('environment_leases_one_lease');
    const other = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'other' });
    await lease({ environmentId: other });
  });

  test('single-flight: a second live ephemeral lease of an execution workspace', async () => {
    const executionWorkspaceId = randomUUID();
    const other = async (row: Partial<LeaseRow> = {}) =>
      lease({ runId: await insertRun(database.sql, { companyId }), executionWorkspaceId, ...row });
    await other({ status: 'released', cleanupStatus: 'success' });
    await other();
    expect(await constraintOf(other())).toBe('environment_leases_single_flight');
    expect(await constraintOf(other({ runId: null }))).toBe('environment_leases_single_flight');
    await other({ leasePolicy: 'reuse_by_execution_workspace' });
    await other({ executionWorkspaceId: randomUUID() });
  });

  test('fenced: a token given twice for one environment', async () => {
    await lease({ fencingToken: 7 });
    const again = { fencingToken: 7, runId: await insertRun(database.sql, { companyId }) };
    expect(await constraintOf(lease(again))).toBe('environment_leases_fenced');
    const other = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'other' });
    await lease({ ...again, environmentId: other });
  });

  test("same-company: a lease on another company's environment", async () => {
    const stranger = await insertCompany(database.sql);
    const foreign = await insertEnvironment(database.sql, { companyId: stranger });
    expect(await constraintOf(lease({ environmentId: foreign }))).toBe('environment_leases_environment_fk');
    expect(await constraintOf(lease({ companyId: stranger, runId: null }))).toBe('environment_leases_environment_fk');
  });

  test("same-company: a lease for another company's run", async () => {
    const stranger = await insertCompany(database.sql);
    const foreign = await insertRun(database.sql, { companyId: stranger });
    expect(await constraintOf(lease({ runId: foreign }))).toBe('environment_leases_run_fk');
    await lease();
    const move = database.sql`update lessor.heartbeat_runs set company_id = ${stranger} where id = ${runId}`;
    expect(await constraintOf(move)).toBe('environment_leases_run_fk');
  });

  test('always-bounded: a lease without an end', async () => {
    const id = await lease();
    const rejection = await postgresErrorOf(
      database.sql`update lessor.environment_leases set expires_at = null where id = ${id}`,
    );
    expect(rejection).toMatchObject({ code: '23502', column_name: 'expires_at' });
    const endless = database.sql`update lessor.environment_leases set ttl_seconds = 0 where id = ${id}`;
    expect(await constraintOf(endless)).toBe('environment_leases_ttl_check');
  });

  test.for([
    ['a released lease without cleanup status', { status: 'released' }],
    ['a retained lease without cleanup status', { status: 'retained' }],
    ['a failed lease without reason', { status: 'failed', cleanupStatus: 'success' }],
    ['a failed lease with an empty reason', { status: 'failed', cleanupStatus: 'success', failureReason: '' }],
    ['an expired lease without reason', { status: 'expired', cleanupStatus: 'pending' }],
    ['an expired lease without cleanup status', { status: 'expired', failureReason: 'expired' }],
    ['a live lease that has a cleanup status', { status: 'active', cleanupStatus: 'success' }],
  ] as const)('always-explained: %s', async ([, row]) => {
    expect(await constraintOf(lease(row))).toBe('environment_leases_explained_check');
  });

  test('always-explained: an ended lease that was never released, or a live one that was', async () => {
    const id = await lease();
    const released = database.sql`update lessor.environment_leases set released_at = now() where id = ${id}`;
    expect(await constraintOf(released)).toBe('environment_leases_released_check');
    const ended = database.sql`
      update lessor.environment_leases set status = 'released', cleanup_status = 'success' where id = ${id}`;
    expect(await constraintOf(ended)).toBe('environment_leases_released_check');
  });

  test.for([
    ['companies', 'status', 'companies_status_check'],
    ['environments', 'status', 'environments_status_check'],
    ['environments', 'driver', 'environments_driver_check'],
    ['heartbeat_runs', 'status', 'heartbeat_runs_status_check'],
    ['environment_leases', 'status', 'environment_leases_status_check'],
    ['environment_leases', 'lease_policy', 'environment_leases_policy_check'],
    ['environment_leases', 'cleanup_status', 'environment_leases_cleanup_check'],
    ['activity_log', 'action', 'activity_log_action_check'],
    ['activity_log', 'actor_type', 'activity_log_actor_type_check'],
    ['activity_log', 'entity_type', 'activity_log_entity_type_check'],
  ] as const)('the word list of %s.%s', async ([table, column, constraint]) => {
    await lease({ status: 'retained', cleanupStatus: 'pending' });
    // With every other check of the table out of the way, for the length of a transaction that is rolled back.
    const attempt = database.sql.begin(async (sql) => {
      const others = await sql<{ conname: string }[]>`
        select conname from pg_constraint
        where conrelid = ${`lessor.${table}`}::regclass and contype = 'c' and conname <> ${constraint}`;
      for (const { conname } of others) await sql.unsafe(`alter table lessor.${table} drop constraint ${conname}`);
      await sql.unsafe(`update lessor.${table} set ${column} = 'no such word'`);
    });
    expect(await constraintOf(attempt)).toBe(constraint);
  });

  test('first-end-wins: a terminal run without its end, or a running one with an end', async () => {
    const end = database.sql`update lessor.heartbeat_runs set status = 'failed' where id = ${runId}`;
    expect(await constraintOf(end)).toBe('heartbeat_runs_finished_check');
    const finish = database.sql`update lessor.heartbeat_runs set finished_at = now() where id = ${runId}`;
    expect(await constraintOf(finish)).toBe('heartbeat_runs_finished_check');
  });

  test('a context snapshot that is no object', async () => {
    const update = database.sql`update lessor.heartbeat_runs set context_snapshot = '[]' where id = ${runId}`;
    expect(await constraintOf(update)).toBe('heartbeat_runs_context_check');
  });

  test('always-audited: a second rejection of one run', async () => {
    await insertRejection();
    expect(await constraintOf(insertRejection())).toBe('activity_log_denied_once');
  });
});
