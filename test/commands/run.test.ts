import { randomUUID } from 'node:crypto';
import { constants } from 'node:os';
import { describe, expect, test } from 'vitest';
import { useQueues, useWorker } from '../consumers/fixture.ts';
import { insertCompany, insertEnvironment } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { lessor, spawnLessor } from './lessor.ts';
import { newRun, untilEnded } from './run-fixture.ts';

const TIMED_OUT = 'error: the run took longer than the 200 ms it was given\n';

describeOnEachBackend(
  '`lessor run`',
  (backend) => {
    useWorker(backend);

    test('passes the lease and the arguments unchanged to the command, and writes nothing else to stdout', async () => {
      const run = newRun(backend);
      const args = ['', 'two words', `'"`, '$HOME `id` *', 'two\nlines', 'ünïcödé 🦊', '--company', '-x', '--', '\\'];
      const script = 'process.stdout.write(JSON.stringify([process.argv.slice(1), process.env]))';
      const end = await spawnLessor([...run.args, '--', process.execPath, '-e', script, '--', ...args], run).ended();

      expect(end).toMatchObject({ exit: 0, stderr: '' });
      const [received, env] = JSON.parse(end.stdout) as [string[], Record<string, string>];
      expect(received).toEqual(args);
      const ended = await untilEnded(backend.database.sql, run.id);
      expect(ended).toMatchObject({ run: 'succeeded', lease: 'released', reason: null });
      expect(env).toMatchObject({
        LESSOR_RUN_ID: run.id,
        LESSOR_LEASE_ID: ended.leaseId,
        LESSOR_FENCING_TOKEN: ended.fencingToken,
      });
      expect(JSON.parse(env['PAPERCLIP_ENVIRONMENT']!)).toEqual({
        id: ended.environmentId,
        name: 'Local',
        driver: 'local',
        leaseId: ended.leaseId,
        workspacePath: process.cwd(),
      });
    });

    test('exits with the code of a failed command, and fails the run', async () => {
      const run = newRun(backend);
      expect(await lessor([...run.args, '--', 'sh', '-c', 'exit 3'], run)).toEqual({ exit: 3, stdout: '', stderr: '' });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({
        run: 'failed',
        lease: 'failed',
        reason: 'exited with code 3',
      });
    });

    test('ends the command at --timeout, says so, exits with 124, and times the run out', async () => {
      const run = newRun(backend);
      const args = [...run.args, '--timeout', '200ms', '--', 'sleep', '60'];
      expect(await lessor(args, run)).toEqual({ exit: 124, stdout: '', stderr: TIMED_OUT });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({
        run: 'timed_out',
        lease: 'failed',
        reason: expect.stringContaining('200 ms') as unknown,
      });
    });

    test('kills a command that ignores SIGTERM at --timeout, --kill-after later', async () => {
      const run = newRun(backend);
      const script = `trap '' TERM; while :; do sleep 0.05; done`;
      const limits = ['--timeout', '200ms', '--kill-after', '200ms'];
      const end = await lessor([...run.args, ...limits, '--', 'sh', '-c', script], run);
      expect(end).toEqual({ exit: 124, stdout: '', stderr: TIMED_OUT });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({ run: 'timed_out' });
    });

    test('says that a command was killed by SIGKILL, and fails the run, which nobody asked to end', async () => {
      const run = newRun(backend);
      const end = await lessor([...run.args, '--', 'sh', '-c', 'kill -KILL $$'], run);
      expect(end).toEqual({ exit: 137, stdout: '', stderr: 'command killed by SIGKILL\n' });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({
        run: 'failed',
        lease: 'failed',
        reason: 'killed by SIGKILL',
      });
    });

    test('cancels the run of a command that somebody ended with SIGTERM, and says so', async () => {
      const run = newRun(backend);
      const end = await lessor([...run.args, '--', 'sh', '-c', 'kill -TERM $$'], run);
      expect(end).toEqual({ exit: 143, stdout: '', stderr: 'command killed by SIGTERM\n' });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({ run: 'cancelled', lease: 'released' });
    });

    test.for(['SIGSEGV', 'SIGABRT'] as const)('fails the run of a command that crashed with %s', async (signal) => {
      const run = newRun(backend);
      const script = `ulimit -c 0; kill -${signal.slice(3)} $$`;
      const end = await lessor([...run.args, '--', 'sh', '-c', script], run);
      expect(end).toEqual({
        exit: 128 + constants.signals[signal],
        stdout: '',
        stderr: `command crashed with ${signal}\n`,
      });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({
        run: 'failed',
        lease: 'failed',
        reason: `crashed with ${signal}`,
      });
    });

    test('exits with 127 when the command does not exist, and fails the run', async () => {
      const run = newRun(backend);
      const { exit, stdout, stderr } = await lessor([...run.args, '--', 'lessor-no-such-command'], run);
      expect({ exit, stdout }).toEqual({ exit: 127, stdout: '' });
      expect(stderr).toMatch(/^error: [^\n]*lessor-no-such-command[^\n]*\n$/);
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({
        run: 'failed',
        lease: 'failed',
        reason: expect.stringContaining('there is no such command') as unknown,
      });
    });

    test('exits with 125 and the reason when the lease is rejected, and starts nothing', async () => {
      const { sql } = backend.database;
      const run = newRun(backend);
      await insertCompany(sql, { id: run.companyId });
      await insertEnvironment(sql, { companyId: run.companyId, status: 'archived' });
      const { exit, stdout, stderr } = await lessor([...run.args, '--', 'lessor-no-such-command'], run);

      expect({ exit, stdout }).toEqual({ exit: 125, stdout: '' });
      expect(stderr).toMatch(/^error: [^\n]*archived[^\n]*\n$/);
      const rejections = await sql`
        select details->>'code' as code from lessor.activity_log
        where run_id = ${run.id} and action = 'environment.lease_denied'`;
      expect([...rejections]).toEqual([{ code: 'environment_archived' }]);
    });

    test('exits with 125 when the run has already ended, and starts nothing', async () => {
      const run = newRun(backend);
      await lessor([...run.args, '--', 'true'], run);
      await untilEnded(backend.database.sql, run.id);
      const { exit, stdout, stderr } = await lessor([...run.args, '--', 'lessor-no-such-command'], run);
      expect({ exit, stdout }).toEqual({ exit: 125, stdout: '' });
      expect(stderr).toMatch(/^error: [^\n]*(ended already|is lost)[^\n]*\n$/);
    });

    test('records agent, issue, workspace, policy and ttl of the flags on the run and its lease', async () => {
      const run = newRun(backend);
      const ids = { agent: randomUUID(), issue: randomUUID(), workspace: randomUUID() };
      const flags = Object.entries(ids).flatMap(([name, id]) => [`--${name}`, id]);
      flags.push('--policy', 'retain_on_failure', '--ttl', '90s');
      expect(await lessor([...run.args, ...flags, '--', 'sh', '-c', 'exit 1'], run)).toMatchObject({ exit: 1 });

      const { sql } = backend.database;
      const ended = await until(async () => {
        const [row] = await sql`
          select agent_id as agent, run.issue_id as issue, execution_workspace_id as workspace, ttl_seconds as ttl,
            lease.status from lessor.heartbeat_runs run
          join lessor.environment_leases lease on heartbeat_run_id = run.id
          where run.id = ${run.id} and run.finished_at is not null`;
        return row;
      });
      expect(ended).toEqual({ ...ids, ttl: 90, status: 'retained' });
    });
  },
  { audited: true },
);

describeOnEachBackend('`lessor run` without a worker', (backend) => {
  const queue = useQueues(backend);
  const endOf = async (runId: string) => (await queue('run-finished').getJob(`${runId}-finished`))?.data;

  test('exits with 125 after --lease-wait, and publishes the run as failed', async () => {
    const run = newRun(backend);
    const { exit, stdout, stderr } = await lessor([...run.args, '--lease-wait', '1s', '--', 'true'], run);

    expect({ exit, stdout }).toEqual({ exit: 125, stdout: '' });
    expect(stderr).toMatch(/^error: [^\n]*no lease within 1000 ms[^\n]*\n$/);
    expect(await endOf(run.id)).toMatchObject({
      status: 'failed',
      failureReason: expect.stringContaining('no lease within 1000 ms') as unknown,
    });
  });
});

describe('`lessor run` with an unreachable queue', () => {
  test.for(['redis', 'postgres'])(
    'on %s exits with 125 immediately, in one line without the password',
    async (protocol) => {
      const env = { QUEUE_URL: `${protocol}://lessor:hunter2@127.0.0.1:1/0` };
      const startedAt = performance.now();
      const args = ['run', '--company', randomUUID(), '--', 'lessor-no-such-command'];
      const { exit, stdout, stderr } = await lessor(args, { env });

      expect({ exit, stdout }).toEqual({ exit: 125, stdout: '' });
      expect(stderr).toMatch(/^error: the queue cannot be reached: [^\n]+\n$/);
      expect(stderr).not.toContain('hunter2');
      expect(performance.now() - startedAt).toBeLessThan(5_000);
    },
  );
});
