import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { insertCompany, insertEnvironment, insertRun, runFinished, runStarted } from '../../support/factories.ts';
import { untilWaitingForLocks } from '../../support/locks.ts';
import { finish, leaseOf, operationsOn, readLease, start, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

const leasesOf = (runId: string) => database.sql<{ id: string; status: string }[]>`
  select id, status from lessor.environment_leases where heartbeat_run_id = ${runId} order by fencing_token`;
const runOf = async (runId: string) => {
  const [run] = await database.sql`select * from lessor.heartbeat_runs where id = ${runId}`;
  return run;
};

describe('the first run of a company', () => {
  test('makes company, Local, run and lease, and tells of them', async () => {
    const ids = { agentId: randomUUID(), issueId: randomUUID(), projectId: randomUUID() };
    const payload = runStarted({ ...ids, ttlSeconds: 60, metadata: { key: 'value' } });
    const { companyId, runId } = payload;
    const lease = await operations.granted(payload);
    expect(lease).toMatchObject({ companyId, runId, status: 'active', leasePolicy: 'ephemeral', ttlSeconds: 60 });
    expect(lease.environment).toMatchObject({ name: 'Local', driver: 'local', leaseId: lease.id });
    expect(Date.parse(lease.expiresAt) - Date.parse(lease.acquiredAt)).toBe(60_000);
    expect(await runOf(runId)).toMatchObject({
      company_id: companyId,
      agent_id: ids.agentId,
      issue_id: ids.issueId,
      project_id: ids.projectId,
      status: 'running',
      started_at: new Date(payload.startedAt),
      context_snapshot: { paperclipEnvironment: lease.environment },
    });
    const [row] = await database.sql`select * from lessor.environment_leases where id = ${lease.id}`;
    expect(row).toMatchObject({ metadata: { key: 'value' }, provider: 'local', issue_id: ids.issueId });
    expect(await eventsOf(database.sql, companyId)).toEqual(['created', 'lease_acquired']);
    const [event] = await database.sql`
      select * from lessor.activity_log where entity_id = ${lease.id} and action = 'environment.lease_acquired'`;
    expect(event).toMatchObject({
      actor_type: 'system',
      actor_id: 'test-worker',
      agent_id: ids.agentId,
      run_id: runId,
    });
  });

  test("keeps what the run's context snapshot had", async () => {
    const payload = runStarted({ companyId: await insertCompany(database.sql) });
    await insertRun(database.sql, { companyId: payload.companyId, id: payload.runId, status: 'queued' });
    await database.sql`update lessor.heartbeat_runs set context_snapshot = '{"own": 1}' where id = ${payload.runId}`;
    const lease = await operations.granted(payload);
    expect(await runOf(payload.runId)).toMatchObject({
      status: 'running',
      context_snapshot: { own: 1, paperclipEnvironment: lease.environment },
    });
  });

  test('is granted the default ttl of the worker where it names none', async () => {
    const outcome = await operations.start(runStarted(), { defaultTtlSeconds: 17 });
    expect(leaseOf(outcome).ttlSeconds).toBe(17);
  });
});

describe('one-local', () => {
  test('holds with twenty starts of a new company racing', async () => {
    const companyId = randomUUID();
    const leases = await Promise.all(Array.from({ length: 20 }, () => operations.granted(runStarted({ companyId }))));
    expect(new Set(leases.map((lease) => lease.environment.id)).size).toBe(1);
    expect(new Set(leases.map((lease) => lease.fencingToken)).size).toBe(20);
    const told = await eventsOf(database.sql, companyId);
    expect(told.filter((action) => action === 'created')).toHaveLength(1);
  });

  test('holds with a service that makes the Local itself at the same moment, without the lock of the company', async () => {
    const companyId = await insertCompany(database.sql);
    const environmentId = randomUUID();
    const racing = await database.sql.begin(async (sql) => {
      await sql`insert into lessor.environments (id, company_id, name, driver)
        values (${environmentId}, ${companyId}, 'Local', 'local')`;
      const granted = operations.granted(runStarted({ companyId }));
      await untilWaitingForLocks(database, 1);
      return { granted };
    });
    expect((await racing.granted).environment.id).toBe(environmentId);
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired']);
  });

  test('leaves a renamed Local as it is', async () => {
    const companyId = await insertCompany(database.sql);
    const environmentId = await insertEnvironment(database.sql, { companyId, name: 'Office' });
    const lease = await operations.granted(runStarted({ companyId }));
    expect(lease.environment).toMatchObject({ id: environmentId, name: 'Office' });
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired']);
  });

  test('leaves an archived Local as it is, and rejects runs on it', async () => {
    const companyId = await insertCompany(database.sql);
    await insertEnvironment(database.sql, { companyId, status: 'archived' });
    const payload = runStarted({ companyId });
    expect(await operations.start(payload)).toMatchObject({
      kind: 'rejected',
      rejection: { code: 'environment_archived' },
    });
    expect(await leasesOf(payload.runId)).toEqual([]);
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_denied']);
    expect(await database.sql`select from lessor.environments where company_id = ${companyId}`).toHaveLength(1);
  });
});

describe('one-lease', () => {
  test('holds when a start is delivered twice in one batch', async () => {
    const payload = runStarted();
    const outcomes = await operations.apply([start(payload), start(payload)]);
    expect(leaseOf(outcomes[1]!)).toEqual(leaseOf(outcomes[0]!));
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('holds when a start is delivered again later', async () => {
    const payload = runStarted();
    expect(await operations.granted(payload)).toEqual(await operations.granted(payload));
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('holds when a start is delivered ten times at once', async () => {
    const payload = runStarted();
    const leases = await Promise.all(Array.from({ length: 10 }, () => operations.granted(payload)));
    expect(new Set(leases.map((lease) => lease.id)).size).toBe(1);
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('returns the lease that a run has even after its environment was archived', async () => {
    const payload = runStarted();
    const lease = await operations.granted(payload);
    await database.sql`update lessor.environments set status = 'archived' where id = ${lease.environment.id}`;
    expect(await operations.granted(payload)).toEqual(lease);
  });

  test('returns the ended lease, and grants no new one, after the run has ended', async () => {
    const payload = runStarted();
    const lease = await operations.granted(payload);
    await operations.finish(runFinished(payload));
    expect(await operations.granted(payload)).toMatchObject({ id: lease.id, status: 'released' });
    expect(await leasesOf(payload.runId)).toHaveLength(1);
  });
});

describe('same-company', () => {
  test("rejects a start that names another company's run, and changes nothing of it", async () => {
    const own = runStarted();
    await operations.granted(own);
    const before = await runOf(own.runId);
    const foreign = runStarted({ runId: own.runId });
    expect(await operations.start(foreign)).toMatchObject({ kind: 'rejected', rejection: { code: 'foreign_run' } });
    expect(await runOf(own.runId)).toEqual(before);
    expect(await leasesOf(own.runId)).toHaveLength(1);
    expect(await eventsOf(database.sql, own.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test("rejects a start that names another company's environment", async () => {
    const { environment } = await operations.granted(runStarted());
    const payload = runStarted({ environment: { issue: environment.id } });
    expect(await operations.start(payload)).toMatchObject({
      kind: 'rejected',
      rejection: { code: 'foreign_environment', reason: expect.stringContaining(environment.id) },
    });
    expect(await leasesOf(payload.runId)).toEqual([]);
    expect(
      await database.sql`
      select from lessor.environment_leases where environment_id = ${environment.id}`,
    ).toHaveLength(1);
  });

  test('is told as rejected once, however often the start is delivered', async () => {
    const { environment } = await operations.granted(runStarted());
    const payload = runStarted({ agentId: randomUUID(), environment: { agent: environment.id } });
    await operations.apply([start(payload), start(payload)]);
    await operations.start(payload);
    expect(await eventsOf(database.sql, payload.companyId)).toEqual(['lease_denied']);
    const [event] = await database.sql`select * from lessor.activity_log where run_id = ${payload.runId}`;
    expect(event).toMatchObject({
      agent_id: payload.agentId,
      entity_type: 'heartbeat_run',
      details: { code: 'foreign_environment', environmentId: environment.id },
    });
  });

  test('holds in one batch with its neighbours, which are granted their leases', async () => {
    const own = runStarted();
    const outcomes = await operations.apply([
      start(own),
      start(runStarted({ runId: own.runId })),
      start(runStarted({ environment: { issue: randomUUID() } })),
      start(runStarted()),
    ]);
    const said = outcomes.map((outcome) => (outcome.kind === 'rejected' ? outcome.rejection.code : outcome.kind));
    expect(said).toEqual(['done', 'foreign_run', 'unknown_environment', 'done']);
  });
});

describe('the environment of a run', () => {
  test('is the most specific one that it names: issue, then project, then agent, then Local', async () => {
    const companyId = await insertCompany(database.sql);
    const ssh = (name: string) => insertEnvironment(database.sql, { companyId, driver: 'ssh', name });
    const [issue, project, agent] = [await ssh('issue'), await ssh('project'), await ssh('agent')];
    const chosenFor = async (environment: NonNullable<Parameters<typeof runStarted>[0]>['environment']) => {
      const outcome = await operations.start(runStarted({ companyId, environment }));
      return outcome.kind === 'acquiring' ? outcome.lease.environment.id : undefined;
    };
    expect(await chosenFor({ issue, project, agent })).toBe(issue);
    expect(await chosenFor({ project, agent })).toBe(project);
    expect(await chosenFor({ agent })).toBe(agent);
    expect(leaseOf(await operations.start(runStarted({ companyId, environment: {} }))).environment.driver).toBe(
      'local',
    );
  });

  test.for(['sandbox', 'plugin'] as const)('is rejected while no driver knows the kind %s', async (driver) => {
    const companyId = await insertCompany(database.sql);
    const issue = await insertEnvironment(database.sql, { companyId, driver, name: driver });
    const leasable = { enabled: true, drivers: new Set(['ssh'] as const) };
    expect(await operations.start(runStarted({ companyId, environment: { issue } }), { leasable })).toMatchObject({
      kind: 'rejected',
      rejection: { code: 'driver_unavailable' },
    });
  });
});

describe('a company', () => {
  test('that is not registered is rejected where only known ones are served, and stays unknown', async () => {
    const payload = runStarted();
    const known = { companyRegistration: 'known' } as const;
    const rejection = { kind: 'rejected', rejection: { code: 'unknown_company' } };
    expect(await operations.start(payload, known)).toMatchObject(rejection);
    expect(await operations.finish(runFinished(payload), known)).toMatchObject(rejection);
    expect(await runOf(payload.runId)).toBeUndefined();
    expect(await database.sql`select from lessor.companies where id = ${payload.companyId}`).toHaveLength(0);
    await insertCompany(database.sql, { id: payload.companyId });
    expect(leaseOf(await operations.start(payload, known)).companyId).toBe(payload.companyId);
  });

  test('that is archived is granted no lease, told as rejected, and can still end its runs', async () => {
    const before = runStarted();
    const lease = await operations.granted(before);
    await database.sql`update lessor.companies set status = 'archived' where id = ${before.companyId}`;
    const after = runStarted({ companyId: before.companyId });
    expect(await operations.start(after)).toMatchObject({ kind: 'rejected', rejection: { code: 'company_archived' } });
    expect(await runOf(after.runId)).toBeUndefined();
    await operations.finish(runFinished(before));
    expect(await readLease(database.sql, lease.id)).toMatchObject({ status: 'released' });
    expect(await eventsOf(database.sql, before.companyId)).toEqual([
      'created',
      'lease_acquired',
      'lease_denied',
      'lease_released',
    ]);
  });
});

describe('a batch', () => {
  test('of fifty companies is carried out as one, with outcomes in the order given', async () => {
    const starts = Array.from({ length: 50 }, () => runStarted());
    const outcomes = await operations.apply([
      ...starts.map((payload) => start(payload)),
      ...starts.slice(0, 25).map((payload) => finish(runFinished(payload))),
    ]);
    expect(outcomes.slice(0, 50).map((outcome) => leaseOf(outcome).runId)).toEqual(starts.map(({ runId }) => runId));
    const [counted] = await database.sql`
      select count(*) filter (where status = 'active')::int as active,
        count(*) filter (where status = 'released')::int as released
      from lessor.environment_leases where company_id = any(${starts.map(({ companyId }) => companyId)}::uuid[])`;
    expect(counted).toEqual({ active: 25, released: 25 });
  });

  test('racing another over the same companies in the opposite order neither deadlocks nor doubles', async () => {
    const companies = Array.from({ length: 20 }, () => randomUUID());
    const orders = [companies, companies.toReversed(), companies, companies.toReversed()];
    const batches = orders.map((order) => operations.apply(order.map((companyId) => start(runStarted({ companyId })))));
    const outcomes = (await Promise.all(batches)).flat();
    expect(outcomes.every((outcome) => outcome.kind === 'done')).toBe(true);
  });

  test('of nothing does nothing', async () => {
    expect(await operations.apply([])).toEqual([]);
  });
});

describe('fenced', () => {
  test('tokens of an environment grow with every lease', async () => {
    const companyId = randomUUID();
    const outcomes = await operations.apply(Array.from({ length: 5 }, () => start(runStarted({ companyId }))));
    const tokens = outcomes.map((outcome) => leaseOf(outcome).fencingToken);
    tokens.push((await operations.granted(runStarted({ companyId }))).fencingToken);
    expect(tokens).toEqual(tokens.toSorted((a, b) => a - b));
    expect(new Set(tokens).size).toBe(6);
  });
});
