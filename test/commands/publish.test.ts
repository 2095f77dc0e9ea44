import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { runStartedSchema } from '../../src/contracts/index.ts';
import { useQueues } from '../consumers/fixture.ts';
import { freePort, startRedisServer, whyNoRedisServer } from '../queues/redis-server.ts';
import { runHeartbeat, runStarted } from '../support/factories.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { lessor } from './lessor.ts';

describeOnEachBackend('`lessor publish`', (backend) => {
  const queue = useQueues(backend);
  const env = { QUEUE_URL: backend.queueUrl, QUEUE_PREFIX: backend.prefix };

  test('publishes a payload of flags', async () => {
    const { companyId, runId } = runStarted();
    const ids = { agentId: randomUUID(), issueId: randomUUID(), executionWorkspaceId: randomUUID() };
    const args = ['--company-id', companyId, '--run-id', runId.toUpperCase(), '--agent-id', ids.agentId];
    args.push('--issue-id', ids.issueId, '--execution-workspace-id', ids.executionWorkspaceId);
    args.push('--lease-policy', 'retain_on_failure', '--ttl-seconds', '90s');
    const end = await lessor(['publish', 'run-started', ...args], { env });

    expect(end).toEqual({ exit: 0, stdout: `published ${runId}-started to run-started\n`, stderr: '' });
    const { data } = (await queue('run-started').getJob(`${runId}-started`))!;
    expect(data).toEqual({
      version: 1,
      companyId,
      runId,
      ...ids,
      leasePolicy: 'retain_on_failure',
      ttlSeconds: 90,
      startedAt: expect.any(String) as unknown,
    });
    expect(runStartedSchema.safeParse(data).success).toBe(true);
  });

  test('publishes the payload on stdin unchanged', async () => {
    const payload = runStarted({ metadata: { note: 'ünïcödé "quotes"' }, startedAt: '2026-01-02T03:04:05.000Z' });
    const end = await lessor(['publish', 'run-started'], { env, stdin: JSON.stringify(payload) });

    expect(end).toMatchObject({ exit: 0, stderr: '' });
    expect((await queue('run-started').getJob(`${payload.runId}-started`))?.data).toEqual(payload);
  });

  test('publishes the end of a run, and prints the job id as JSON with --json', async () => {
    const { companyId, runId } = runStarted();
    const args = [
      '--company-id',
      companyId,
      '--run-id',
      runId,
      '--status',
      'failed',
      '--failure-reason',
      'no disk left',
    ];
    const end = await lessor(['publish', 'run-finished', '--json', ...args], { env });

    expect(end).toMatchObject({ exit: 0, stderr: '' });
    expect(JSON.parse(end.stdout)).toEqual({ jobId: `${runId}-finished` });
    expect((await queue('run-finished').getJob(`${runId}-finished`))?.data).toMatchObject({
      companyId,
      runId,
      status: 'failed',
      failureReason: 'no disk left',
    });
  });

  test('publishes a heartbeat from stdin, --json being no field of the payload', async () => {
    const payload = runHeartbeat(runStarted());
    const end = await lessor(['publish', 'run-heartbeat', '--json'], { env, stdin: JSON.stringify(payload) });

    expect(end).toMatchObject({ exit: 0, stderr: '' });
    const { jobId } = JSON.parse(end.stdout) as { jobId: string };
    expect((await queue('run-heartbeat').getJob(jobId))?.data).toEqual(payload);
  });

  test('publishes one job per event, also when the second call has another status', async () => {
    const { companyId, runId } = runStarted();
    const args = ['publish', 'run-finished', '--company-id', companyId, '--run-id', runId, '--status'];
    const before = await queue('run-finished').getJobCountByTypes();
    const [first, second] = [await lessor([...args, 'succeeded'], { env }), await lessor([...args, 'failed'], { env })];

    expect(first).toMatchObject({ exit: 0 });
    expect(second).toEqual(first);
    expect(await queue('run-finished').getJobCountByTypes()).toBe(before + 1);
    expect((await queue('run-finished').getJob(`${runId}-finished`))?.data).toMatchObject({ status: 'succeeded' });
  });

  describe('publishes nothing, exits with 2 and names', () => {
    const run = runStarted();
    test.for<[what: string, queueName: 'run-started' | 'run-finished', stdin: string, expected: string[]]>([
      ['a field that is not a UUID', 'run-started', JSON.stringify({ ...run, agentId: 'me' }), ['agentId', 'UUID']],
      ['a missing field', 'run-started', JSON.stringify({ runId: run.runId }), ['companyId']],
      ['an unknown field', 'run-started', JSON.stringify({ ...run, colour: 'red' }), ['colour']],
      ['a field out of range', 'run-started', JSON.stringify({ ...run, ttlSeconds: 86_401 }), ['ttlSeconds', '86400']],
      ['a nested field', 'run-started', JSON.stringify({ ...run, environment: { issue: 1 } }), ['environment.issue']],
      ['an unknown status', 'run-finished', JSON.stringify({ ...run, status: 'lost' }), ['status', 'timed_out']],
      ['stdin, for invalid JSON', 'run-started', '{"runId":', ['stdin', 'JSON']],
      ['stdin, for an empty one', 'run-started', '', ['stdin', 'JSON']],
      ['the payload, for JSON that is not an object', 'run-started', '[]', ['run-started payload']],
    ])('%s', async ([, queueName, stdin, expected]) => {
      const before = await queue(queueName).getJobCountByTypes();
      const { exit, stdout, stderr } = await lessor(['publish', queueName], { env, stdin });

      expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
      for (const word of expected) expect(stderr).toContain(word);
      expect(stderr).not.toContain('    at ');
      expect(await queue(queueName).getJobCountByTypes()).toBe(before);
    });

    test('every field that no flag gives', async () => {
      const { exit, stdout, stderr } = await lessor(['publish', 'run-finished', '--run-id', run.runId], { env });
      expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
      expect(stderr).toContain('companyId');
      expect(stderr).toContain('status');
    });
  });
});

test.for(['redis', 'postgres'])(
  '`lessor publish` reports an unreachable queue on %s in one line, immediately and without the password',
  async (protocol) => {
    const { companyId, runId } = runStarted();
    const url = `${protocol}://lessor:hunter2@127.0.0.1:1/0`;
    const args = ['publish', 'run-started', '--company-id', companyId, '--run-id', runId, '--queue-url', url];
    const startedAt = performance.now();
    const { exit, stdout, stderr } = await lessor(args);

    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(stderr).toMatch(/^error: [^\n]*QUEUE_URL[^\n]*\n$/);
    expect(stderr).not.toContain('hunter2');
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  },
);

test.skipIf(whyNoRedisServer !== undefined)('`lessor publish --buffer` waits for an unreachable queue', async () => {
  const port = await freePort();
  const run = { companyId: randomUUID(), runId: randomUUID() };
  const flags = ['--company-id', run.companyId, '--run-id', run.runId, '--buffer', '15s'];
  const env = { QUEUE_URL: `redis://127.0.0.1:${port}` };
  const [{ exit, stdout }, redis] = await Promise.all([
    lessor(['publish', 'run-started', ...flags], { env }),
    startRedisServer(port),
  ]);
  expect({ exit, stdout }).toEqual({ exit: 0, stdout: `published ${run.runId}-started to run-started\n` });
  expect(await redis.call('EXISTS', `lessor:run-started:${run.runId}-started`)).toBe(1);
});
