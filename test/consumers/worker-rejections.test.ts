import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { RunStarted } from '../../src/contracts/index.ts';
import type { QueueName } from '../../src/queues/job-options.ts';
import { insertCompany, insertEnvironment, runFinished, runHeartbeat, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import type { Backend } from '../support/queues.ts';
import { countLeases, jobInState, useQueues, useWorker } from './fixture.ts';

const NUL = '\u0000';
const LONE_SURROGATE = '\uD800';

/** A job that is rejected: its data, and how the reason begins. */
interface BadJob {
  data: unknown;
  reason: RegExp;
  queue?: QueueName;
}

/** Invalid for any company. */
const INVALID: Record<string, (run: RunStarted) => BadJob> = {
  // BullMQ on Postgres stores it as an empty object.
  'that is null': () => ({ data: null, reason: /^invalid_payload: / }),
  'that is a string': () => ({ data: 'run', reason: /^invalid_payload: .*expected object/ }),
  'that is an array': (run) => ({ data: [run], reason: /^invalid_payload: .*expected object/ }),
  'with an unknown key': (run) => ({ data: { ...run, priority: 1 }, reason: /^invalid_payload: .*priority/ }),
  'of another version': (run) => ({ data: { ...run, version: 2 }, reason: /^invalid_payload: .*\n.*version/ }),
  'whose run id is no UUID': (run) => ({
    data: { ...run, runId: 'run-1' },
    reason: /^invalid_payload: .*UUID\n.*runId/,
  }),
  'without a company': (run) => ({
    data: { ...run, companyId: undefined },
    reason: /^invalid_payload: .*\n.*companyId/,
  }),
  'with a ttl of zero': (run) => ({ data: { ...run, ttlSeconds: 0 }, reason: /^invalid_payload: .*\n.*ttlSeconds/ }),
  'with a ttl of more than a day': (run) => ({
    data: { ...run, ttlSeconds: 86_401 },
    reason: /^invalid_payload: .*\n.*ttlSeconds/,
  }),
  'with a ttl that is a string': (run) => ({
    data: { ...run, ttlSeconds: '60' },
    reason: /^invalid_payload: .*\n.*ttlSeconds/,
  }),
  'with more than 16 KiB of metadata': (run) => ({
    data: { ...run, metadata: { text: 'x'.repeat(16 * 1024) } },
    reason: /^invalid_payload: .*16384 allowed\n.*metadata/,
  }),
  'with metadata that is nested too deeply': (run) => ({
    data: { ...run, metadata: JSON.parse(`${'{"a":'.repeat(40)}1${'}'.repeat(40)}`) as unknown },
    reason: /^invalid_payload: .*more than 32 deep/,
  }),
  'with an invalid startedAt': (run) => ({
    data: { ...run, startedAt: 'yesterday' },
    reason: /^invalid_payload: .*\n.*startedAt/,
  }),
  'that ends a run without a status': (run) => ({
    queue: 'run-finished',
    data: { ...runFinished(run), status: undefined },
    reason: /^invalid_payload: .*\n.*status/,
  }),
  'that is a heartbeat with an invalid time': (run) => ({
    queue: 'run-heartbeat',
    data: runHeartbeat(run, { at: 'now' }),
    reason: /^invalid_payload: .*\n.*at/,
  }),
};

/** Invalid, and the Postgres backend cannot store it. */
const UNSTORABLE: typeof INVALID = {
  'with NUL in its metadata': (run) => ({
    data: { ...run, metadata: { text: `a${NUL}b` } },
    reason: /^invalid_payload: .*NUL/,
  }),
  'with NUL in a key of its metadata': (run) => ({
    data: { ...run, metadata: { [`a${NUL}b`]: 1 } },
    reason: /^invalid_payload: .*NUL/,
  }),
  'with a lone surrogate in its metadata': (run) => ({
    data: { ...run, metadata: { text: `a${LONE_SURROGATE}b` } },
    reason: /^invalid_payload: .*lone surrogate/,
  }),
  'with an unknown key that has NUL in it': (run) => ({
    data: { ...run, [`a${NUL}b`]: 1 },
    reason: /^invalid_payload: /,
  }),
  'that ends a run with NUL in the reason': (run) => ({
    queue: 'run-finished',
    data: runFinished(run, { status: 'failed', failureReason: `bo${NUL}om` }),
    reason: /^invalid_payload: .*NUL/,
  }),
};

describeOnEachBackend(
  'a rejected job',
  (backend) => {
    const { database, kind } = backend;
    useWorker(backend);
    const queue = useQueues(backend);

    /** Adds a job between two valid ones of the same company; expects one failed attempt, and the others completed. */
    async function expectRejectedAmongNeighbours(
      { data, reason, queue: name = 'run-started' }: BadJob,
      companyId: string,
    ) {
      const jobId = `bad-${randomUUID()}`;
      const neighbours = [runStarted({ companyId }), runStarted({ companyId })];
      const add = (neighbour: RunStarted) =>
        queue('run-started').add('run-started', neighbour, { jobId: `good-${neighbour.runId}` });
      await add(neighbours[0]!);
      // With five attempts allowed, a single one shows that a rejection is final.
      await queue(name).add(name, data, { jobId, attempts: 5 });
      await add(neighbours[1]!);

      const job = await jobInState(queue(name), jobId, 'failed');
      expect(job.attemptsMade).toBe(1);
      expect(job.failedReason).toMatch(reason);
      for (const { runId } of neighbours) {
        const completed = await jobInState(queue('run-started'), `good-${runId}`, 'completed');
        expect(completed.returnvalue).toMatchObject({ runId, status: 'active' });
      }
    }

    const rejectionsOf = (runId: string) => database.sql<{ company_id: string; details: { code: string } }[]>`
      select company_id, details from lessor.activity_log
      where run_id = ${runId} and action = 'environment.lease_denied'`;

    describe('isolated: a job', () => {
      const cases = Object.entries(kind === 'redis' ? { ...INVALID, ...UNSTORABLE } : INVALID);

      test.for(cases)('%s fails alone and permanently on its first attempt', async ([, badJob]) => {
        const run = runStarted({ companyId: await insertCompany(database.sql) });
        await expectRejectedAmongNeighbours(badJob(run), run.companyId);
        expect(await countLeases(database.sql, [run.companyId])).toMatchObject({ leases: 2, runs: 2, acquired: 2 });
      });
    });

    test('always-audited: is recorded once, however often it is delivered', async () => {
      const companyId = await insertCompany(database.sql);
      const data = runStarted({ companyId, ttlSeconds: 0 });
      for (const attempt of [1, 2]) {
        const jobId = `${attempt}-${data.runId}`;
        await queue('run-started').add('run-started', data, { jobId });
        await jobInState(queue('run-started'), jobId, 'failed');
      }
      expect(await rejectionsOf(data.runId)).toMatchObject([
        { company_id: companyId, details: { code: 'invalid_payload' } },
      ]);
    });

    test('is not recorded when the company is not registered, and does not register it', async () => {
      const data = runStarted({ ttlSeconds: 0 });
      const jobId = `unknown-${data.runId}`;
      await queue('run-started').add('run-started', data, { jobId });
      await jobInState(queue('run-started'), jobId, 'failed');
      expect(await rejectionsOf(data.runId)).toEqual([]);
      expect(await database.sql`select from lessor.companies where id = ${data.companyId}`).toHaveLength(0);
    });

    describe('isolated: a run', () => {
      test.for(Object.entries(FORBIDDEN))('%s is rejected permanently and recorded', async ([, forbidden]) => {
        const companyId = await insertCompany(database.sql);
        const { neighboursOf = companyId, recorded = true, ...badJob } = await forbidden(backend, companyId);
        await expectRejectedAmongNeighbours(badJob, neighboursOf);
        const rejections = await rejectionsOf(badJob.data.runId);
        const { source } = badJob.reason;
        expect(rejections.map(({ details }) => details.code)).toEqual(
          recorded ? [source.slice(1, source.indexOf(':'))] : [],
        );
      });

      test('of an archived company is rejected permanently and recorded', async () => {
        const companyId = await insertCompany(database.sql, { status: 'archived' });
        const other = await insertCompany(database.sql);
        const data = runStarted({ companyId });
        await expectRejectedAmongNeighbours({ data, reason: /^company_archived: / }, other);
        expect(await rejectionsOf(data.runId)).toMatchObject([{ details: { code: 'company_archived' } }]);
      });
    });
  },
  { audited: true },
);

interface Forbidden extends BadJob {
  data: { runId: string };
  /** The company of the valid jobs around it; default the rejected run's. */
  neighboursOf?: string;
  /** Whether the rejection is recorded, which it is for a run without a lease only; default true. */
  recorded?: boolean;
}

/** Valid, but rejected because of the rows in the database. */
const FORBIDDEN: Record<string, (backend: Backend, companyId: string) => Promise<Forbidden>> = {
  'that selects an environment which does not exist': async (_backend, companyId) => ({
    data: runStarted({ companyId, environment: { agent: randomUUID() } }),
    reason: /^unknown_environment: there is no environment [0-9a-f-]{36}$/,
  }),
  'that selects an archived environment': async ({ database }, companyId) => {
    const status = 'archived';
    const issue = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'old', status });
    return {
      data: runStarted({ companyId, environment: { issue } }),
      reason: /^environment_archived: .* is archived$/,
    };
  },
  'that selects an environment other than Local while environments are disabled': async ({ database }, companyId) => {
    const issue = await insertEnvironment(database.sql, { companyId, driver: 'ssh', name: 'box' });
    return {
      data: runStarted({ companyId, environment: { issue } }),
      reason: /^environments_disabled: .* of the kind ssh, .* ENABLE_ENVIRONMENTS=true$/,
    };
  },
  "that selects another company's environment (same-company)": async ({ database }, companyId) => {
    const other = await insertCompany(database.sql);
    const project = await insertEnvironment(database.sql, { companyId: other, driver: 'ssh', name: 'theirs' });
    return { data: runStarted({ companyId, environment: { project } }), reason: /^foreign_environment: / };
  },
  'whose company archived its Local (one-local)': async ({ database }, companyId) => {
    const neighboursOf = await insertCompany(database.sql);
    await insertEnvironment(database.sql, { companyId, status: 'archived' });
    return { data: runStarted({ companyId }), reason: /^environment_archived: /, neighboursOf };
  },
  "with the id of another company's run (same-company)": async ({ database }, companyId) => {
    const theirs = runStarted({ companyId: await insertCompany(database.sql) });
    await database.sql`
      insert into lessor.heartbeat_runs (id, company_id, status) values (${theirs.runId}, ${theirs.companyId}, 'running')`;
    return { data: runStarted({ companyId, runId: theirs.runId }), reason: /^foreign_run: / };
  },
  'of another company that is ended (same-company)': async ({ database }, companyId) => {
    const theirs = runStarted({ companyId: await insertCompany(database.sql) });
    await database.sql`
      insert into lessor.heartbeat_runs (id, company_id, status) values (${theirs.runId}, ${theirs.companyId}, 'running')`;
    const data = runFinished({ companyId, runId: theirs.runId });
    return { queue: 'run-finished', data, reason: /^foreign_run: /, recorded: false };
  },
};
