import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { applyBatch, applyGeneralPath } from '../../../src/environments/operations/apply.ts';
import type { OperationPool } from '../../../src/environments/operations/apply.ts';
import { ProvisionedCompanies, applyFastPath } from '../../../src/environments/operations/fast-path.ts';
import type { Operation, OperationOutcome, OperationSettings } from '../../../src/environments/operations/operation.ts';
import { useDatabase } from '../../support/database.ts';
import {
  SSH_CONFIG,
  insertCompany,
  insertEnvironment,
  insertLease,
  insertRun,
  runFinished,
  runHeartbeat,
  runStarted,
} from '../../support/factories.ts';
import { OPERATION_SETTINGS, finish, leaseOf, operationsOn, renew, start, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ audited: true });

/** By the fast path, where the companies of starts may have to be registered and given their Local. */
const applyFast = (operations: Operation[], settings: Partial<OperationSettings> = {}) =>
  applyFastPath(database.pool, operations, { ...OPERATION_SETTINGS, ...settings });

/** By the fast path, where the companies are held to be registered and to have their Local. */
const applyProvisioned = (...operations: Operation[]) => {
  const provisioned = new ProvisionedCompanies();
  for (const { payload } of operations) provisioned.add(payload.companyId);
  return applyFastPath(database.pool, operations, OPERATION_SETTINGS, { provisioned });
};

const applyGeneral = (operations: Operation[]): Promise<OperationOutcome[]> =>
  applyGeneralPath(database.pool, operations, OPERATION_SETTINGS);

/** A company with a `Local` that has been leased before. */
async function usedCompany(): Promise<string> {
  const companyId = await insertCompany(database.sql);
  await insertEnvironment(database.sql, { companyId });
  return companyId;
}

describe('the fast path', () => {
  test('applies all that a run on Local needs: its start, its heartbeats and its end', async () => {
    const run = runStarted({ companyId: await usedCompany() });
    expect(await applyFast([start(run)])).toMatchObject([{ kind: 'done', result: { status: 'active' } }]);
    expect(await applyFast([renew(runHeartbeat(run, { ttlSeconds: 900 }))])).toMatchObject([
      { kind: 'done', result: { leases: [{ status: 'active' }] } },
    ]);
    expect(await applyFast([finish(runFinished(run))])).toMatchObject([
      { kind: 'done', result: { status: 'succeeded', leases: [{ status: 'released' }] } },
    ]);
  });

  test('gives leases time-ordered ids, UUIDs of version 7', async () => {
    const companyId = await usedCompany();
    const ids: string[] = [];
    for (let batch = 0; batch < 3; batch += 1) {
      const outcomes = await applyFast([start(runStarted({ companyId })), start(runStarted({ companyId }))]);
      const leases = outcomes.map((outcome) => leaseOf(outcome!));
      for (const { id, acquiredAt } of leases) {
        expect(z.uuidv7().parse(id)).toBe(id);
        const madeAt = Number.parseInt(id.replace('-', '').slice(0, 12), 16);
        expect(Math.abs(madeAt - Date.parse(acquiredAt))).toBeLessThanOrEqual(1);
      }
      ids.push(...leases.map(({ id }) => id.slice(0, 13)));
      expect(leases[0]!.id).not.toBe(leases[1]!.id);
    }
    expect(ids).toEqual(ids.toSorted());
  });

  test('applies its operations of a mixed batch, and the others of the batch fall through', async () => {
    const companyId = await usedCompany();
    const [run, other] = [runStarted({ companyId }), runStarted({ companyId })];
    const named = runStarted({ companyId, executionWorkspaceId: randomUUID() });
    const outcomes = await applyFast([start(run), start(named), start(other), finish(runFinished(run))]);
    expect(outcomes.map((outcome) => outcome?.kind)).toEqual(['done', undefined, 'done', 'done']);
  });

  test.for<[what: string, operation: () => Promise<Operation>]>([
    ['starts of a company never seen before', async () => start(runStarted())],
    [
      'starts of an archived company',
      async () => {
        const companyId = await insertCompany(database.sql, { status: 'archived' });
        await insertEnvironment(database.sql, { companyId });
        return start(runStarted({ companyId }));
      },
    ],
    [
      'starts of a company without a Local',
      async () => start(runStarted({ companyId: await insertCompany(database.sql) })),
    ],
    [
      'starts of a company whose Local is archived',
      async () => {
        const companyId = await insertCompany(database.sql);
        await insertEnvironment(database.sql, { companyId, status: 'archived' });
        return start(runStarted({ companyId }));
      },
    ],
    [
      'starts that name an environment',
      async () => {
        const companyId = await usedCompany();
        const agent = await insertEnvironment(database.sql, { companyId, driver: 'ssh', config: SSH_CONFIG });
        return start(runStarted({ companyId, environment: { agent } }));
      },
    ],
    [
      'starts of a run that was heard of before',
      async () => {
        const companyId = await usedCompany();
        return start(
          runStarted({ companyId, runId: await insertRun(database.sql, { companyId, status: 'succeeded' }) }),
        );
      },
    ],
    [
      "starts of another company's run",
      async () => {
        const runId = await insertRun(database.sql, { companyId: await usedCompany() });
        return start(runStarted({ companyId: await usedCompany(), runId }));
      },
    ],
    ['ends of a run never heard of', async () => finish(runFinished(runStarted({ companyId: await usedCompany() })))],
    [
      'ends of a run that has ended',
      async () => {
        const companyId = await usedCompany();
        const runId = await insertRun(database.sql, { companyId, status: 'failed' });
        return finish(runFinished({ companyId, runId }));
      },
    ],
    [
      "ends of another company's run",
      async () => {
        const runId = await insertRun(database.sql, { companyId: await usedCompany() });
        return finish(runFinished({ companyId: await usedCompany(), runId }));
      },
    ],
    [
      'heartbeats of a run whose lease has expired',
      async () => {
        const companyId = await usedCompany();
        const runId = await insertRun(database.sql, { companyId });
        const [local] = await database.sql`select id from lessor.environments where company_id = ${companyId}`;
        const leaseId = await insertLease(database.sql, { companyId, environmentId: local!['id'], runId });
        await database.sql`update lessor.environment_leases set expires_at = now() where id = ${leaseId}`;
        return renew(runHeartbeat({ companyId, runId }));
      },
    ],
    [
      'heartbeats of a run without a lease',
      async () => renew(runHeartbeat(runStarted({ companyId: await usedCompany() }))),
    ],
  ])('changes nothing for %s, which fall through', async ([, prepare]) => {
    const operation = await prepare();
    const before = await everythingIn(operation.payload.companyId);
    expect(await applyProvisioned(operation)).toEqual([undefined]);
    expect(await everythingIn(operation.payload.companyId)).toEqual(before);
    await operationsOn(database).apply([operation]);
  });

  const STRANGE = `"quoted", {braced}, null, NULL, \\back\\slashed,, 'single' \t\n ünïcödé`;

  test.for([
    { status: 'succeeded' as const },
    { status: 'cancelled' as const },
    { status: 'failed' as const },
    { status: 'failed' as const, failureReason: STRANGE, metadata: { text: STRANGE, nested: [null, { '"': '}' }] } },
    { status: 'timed_out' as const, failureReason: 'null', leasePolicy: 'retain_on_failure' as const },
    { status: 'succeeded' as const, leasePolicy: 'reuse_by_environment' as const, ttlSeconds: 77 },
    { status: 'succeeded' as const, agentId: randomUUID(), issueId: randomUUID(), projectId: randomUUID() },
  ])('has the effect and the outcomes that the general path has: %j', async ({ status, failureReason, ...wanted }) => {
    const found = [];
    for (const apply of [applyFast, applyGeneral]) {
      const run = runStarted({ companyId: await usedCompany(), ...wanted, startedAt: '2026-01-02T03:04:05.678Z' });
      const end = runFinished(run, { status, failureReason, finishedAt: '2026-01-02T03:05:00.000Z' });
      const outcomes = [...(await apply([start(run)])), ...(await apply([finish(end)]))];
      found.push(withoutNames({ outcomes, rows: await everythingIn(run.companyId) }));
    }
    expect(found[0]).toEqual(found[1]);
  });
});

describe('the first runs of a company, on the fast path', () => {
  test('register the company and create its Local, once for all of them', async () => {
    const companyId = randomUUID();
    const runs = [runStarted({ companyId }), runStarted({ companyId })];
    const outcomes = await applyFast([...runs.map(start), start(runStarted())]);
    expect(outcomes).toMatchObject(
      [1, 2, 3].map(() => ({ kind: 'done', result: { status: 'active', environment: { name: 'Local' } } })),
    );
    expect(await eventsOf(database.sql, companyId)).toEqual(['created', 'lease_acquired', 'lease_acquired']);
  });

  test('one-local: leave an existing Local unchanged', async () => {
    const companyId = await usedCompany();
    await database.sql`update lessor.environments set name = 'Renamed' where company_id = ${companyId}`;
    expect(await applyFast([start(runStarted({ companyId }))])).toMatchObject([
      { kind: 'done', result: { environment: { name: 'Renamed' } } },
    ]);
    expect(await eventsOf(database.sql, companyId)).toEqual(['lease_acquired']);
  });

  test.for<[what: string, known: number, company: () => Promise<string>]>([
    ['is archived', 1, () => insertCompany(database.sql, { status: 'archived' })],
    ['is not registered, where only known ones are served', 0, async () => randomUUID()],
  ])('fall through where the company %s', async ([, known, findCompany]) => {
    const companyId = await findCompany();
    const settings = { companyRegistration: 'known' } as const;
    expect(await applyFast([start(runStarted({ companyId }))], settings)).toEqual([undefined]);
    expect(await everythingIn(companyId)).toEqual({ environments: [], runs: [], leases: [], events: [] });
    expect(await database.sql`select from lessor.companies where id = ${companyId}`).toHaveLength(known);
  });

  test('fall through where the Local is archived, or the run is in the ledger', async () => {
    const archived = await insertCompany(database.sql);
    await insertEnvironment(database.sql, { companyId: archived, status: 'archived' });
    const companyId = await usedCompany();
    const runId = await insertRun(database.sql, { companyId, status: 'succeeded' });
    const starts = [start(runStarted({ companyId: archived })), start(runStarted({ companyId, runId }))];
    expect(await applyFast(starts)).toEqual([undefined, undefined]);
    expect(await eventsOf(database.sql, archived)).toEqual([]);
  });

  test('create no Local for a company whose run merely has a heartbeat in the batch', async () => {
    const companyId = await insertCompany(database.sql);
    const operations = [start(runStarted()), renew(runHeartbeat(runStarted({ companyId })))];
    expect(await applyFast(operations)).toMatchObject([{ kind: 'done' }, undefined]);
    expect(await eventsOf(database.sql, companyId)).toEqual([]);
  });

  test('have the effect and the outcomes that they have on the general path', async () => {
    const found = [];
    for (const apply of [applyFast, applyGeneral]) {
      const run = runStarted({ startedAt: '2026-01-02T03:04:05.678Z' });
      found.push(withoutNames({ outcomes: await apply([start(run)]), rows: await everythingIn(run.companyId) }));
    }
    expect(found[0]).toEqual(found[1]);
  });
});

describe('a batch', () => {
  test('is settled in two steps: the fast path when it has committed, and what fell through by a promise', async () => {
    const companyId = await usedCompany();
    const run = runStarted({ companyId });
    const named = runStarted({ companyId, executionWorkspaceId: randomUUID() });
    const [fast, general] = await applyBatch(database.pool, [start(run), start(named)], OPERATION_SETTINGS);
    expect(fast).toMatchObject({ kind: 'done', result: { runId: run.runId } });
    expect(general).toBeInstanceOf(Promise);
    expect(await general).toMatchObject({ kind: 'done', result: { runId: named.runId } });
  });

  test('with two operations of one subject is rejected, and nothing is applied', async () => {
    const run = runStarted();
    const twice = applyBatch(database.pool, [start(run), start({ ...run })], OPERATION_SETTINGS);
    await expect(twice).rejects.toThrow(`holds start ${run.runId} twice`);
    expect(await everythingIn(run.companyId)).toEqual({ environments: [], runs: [], leases: [], events: [] });
  });

  test('provisions the company of a start that falls through, until one of its starts has been granted a lease', async () => {
    const { companyId } = runStarted();
    const provisioned = new ProvisionedCompanies();
    const sent: number[] = [];
    const pool: OperationPool = {
      transaction: (work) => database.pool.transaction(work),
      pipeline: (statements) => {
        sent.push(statements.length);
        return database.pool.pipeline(statements);
      },
    };
    for (let batch = 0; batch < 2; batch += 1) {
      const operations = [start(runStarted({ companyId }))];
      const [outcome] = await applyBatch(pool, operations, OPERATION_SETTINGS, { provisioned });
      expect(await outcome).toMatchObject({ kind: 'done' });
    }
    expect(sent).toEqual([2, 4, 2]);
  });

  test('grants a lease to a company that has lost its Local since it was known to have one', async () => {
    const companyId = await insertCompany(database.sql);
    const provisioned = new ProvisionedCompanies();
    provisioned.add(companyId);
    const operations = [start(runStarted({ companyId }))];
    const [outcome] = await applyBatch(database.pool, operations, OPERATION_SETTINGS, { provisioned });
    expect(await outcome).toMatchObject({ kind: 'done', result: { environment: { name: 'Local' } } });
  });

  test('forgets the oldest of the provisioned companies beyond their number', () => {
    const provisioned = new ProvisionedCompanies(2);
    for (const companyId of ['a', 'b', 'a', 'c']) provisioned.add(companyId);
    expect(['a', 'b', 'c'].filter((companyId) => provisioned.has(companyId))).toEqual(['b', 'c']);
  });
});

async function everythingIn(companyId: string) {
  const { sql } = database;
  return {
    environments: await sql`select * from lessor.environments where company_id = ${companyId}`,
    runs: await sql`select * from lessor.heartbeat_runs where company_id = ${companyId}`,
    leases: await sql`select * from lessor.environment_leases where company_id = ${companyId}`,
    events: await sql`select * from lessor.activity_log where company_id = ${companyId} order by id`,
  };
}

/** What was made by chance or by the clock is told apart only by where else it stands. */
function withoutNames(found: unknown): unknown {
  const names = new Map<string, string>();
  const now = Date.now();
  return JSON.parse(JSON.stringify(inOrder(JSON.parse(JSON.stringify(found)))), (key, value: unknown) => {
    if (key === 'fencingToken' || key === 'lessorFencingToken') return 'token';
    if (key === 'fencing_token' || (key === 'id' && /^\d+$/.test(String(value)))) return 'number';
    if (typeof value !== 'string') return value;
    if (/^[\da-f-]{36}$/.test(value)) {
      if (!names.has(value)) names.set(value, `id ${names.size}`);
      return names.get(value);
    }
    const instant = /^\d{4}-\d\d-\d\dT/.test(value) ? Date.parse(value) : Number.NaN;
    if (Number.isNaN(instant) || Math.abs(instant - now) > 3_600_000) return value;
    return `${Math.round((instant - now) / 30_000)} half minutes from now`;
  });
}

/** With the keys of objects in one order. */
function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([one], [other]) => one.localeCompare(other));
  return Object.fromEntries(entries.map(([key, each]) => [key, inOrder(each)]));
}
