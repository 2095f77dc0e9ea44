import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createHeartbeatProducer } from '../../src/producers/producer.ts';
import { runStarted } from '../support/factories.ts';
import { until } from '../../testing/until.ts';
import { freePort, startRedisServer, whyNoRedisServer } from '../queues/redis-server.ts';
import { lessor, spawnLessor } from './lessor.ts';
import { runningProcesses } from '../../testing/running-processes.ts';

test('`lessor dev` grants leases until Ctrl-C, leaves no process, and keeps its data for the next start', async () => {
  const directory = await newDirectory();

  const first = await startDev(directory);
  expect(first.stdout()).toContain('export QUEUE_URL=postgres://');
  expect(first.stdout()).toContain('the data stays in .lessor');
  const lease = await leaseFrom(first.queueUrl);
  expect(lease.environment).toMatchObject({ name: 'Local', driver: 'local' });
  interrupt(first.child.pid);
  expect(await first.ended()).toMatchObject({ exit: 0 });
  await until(() => processesIn(directory).length === 0, { what: 'the end of everything that was started' });

  const second = await startDev(directory);
  const { stdout } = await lessor(['leases', '--json'], { env: { DATABASE_URL: second.databaseUrl } });
  expect(JSON.parse(stdout)).toMatchObject([{ id: lease.id, status: 'active' }]);
  second.child.kill('SIGTERM');
  expect(await second.ended()).toMatchObject({ exit: 0 });
  await until(() => processesIn(directory).length === 0, { what: 'the end of everything that was started' });
}, 60_000);

test.for(['SIGTERM', 'SIGINT'] as const)(
  '`lessor dev` whose Redis is unreachable says that it waits for it, ends on %s, and leaves no process',
  { timeout: 60_000 },
  async (signal) => {
    const directory = await newDirectory();
    const running = devOn(`redis://127.0.0.1:${await freePort()}`, directory);
    await until(() => running.stderr().includes('the queue does not answer yet: waiting for it'), {
      timeoutMs: 30_000,
      what: 'word of the wait',
    });
    expect(running.stdout()).toBe('');
    running.child.kill(signal);
    expect(await running.ended()).toMatchObject({ exit: 0, stdout: '' });
    await until(() => processesIn(directory).length === 0, { what: 'the end of everything that was started' });
  },
);

test.skipIf(whyNoRedisServer !== undefined)(
  '`lessor dev` becomes ready once its Redis is there',
  async () => {
    const directory = await newDirectory();
    const port = await freePort();
    const running = devOn(`redis://127.0.0.1:${port}`, directory);
    await until(() => running.stderr().includes('waiting for it'), { timeoutMs: 30_000, what: 'word of the wait' });
    await startRedisServer(port);
    await until(() => running.stdout().includes('export QUEUE_URL=redis://'), { timeoutMs: 30_000, what: 'the URLs' });
    running.child.kill('SIGTERM');
    expect(await running.ended()).toMatchObject({ exit: 0 });
  },
  60_000,
);

/** Starts `lessor dev` on a queue of its own. */
function devOn(queueUrl: string, directory: string) {
  return spawnLessor(['dev', '--queue-url', queueUrl], { cwd: directory, env: { LOG_LEVEL: 'silent' } });
}

/** A directory in which `lessor dev` can keep its data. */
async function newDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-dev-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  // As root, Postgres runs as another user, who must be able to enter the directory.
  await chmod(directory, 0o755);
  return directory;
}

async function startDev(directory: string) {
  const env = { LOG_LEVEL: 'warn' };
  const running = spawnLessor(['dev'], { cwd: directory, env, detached: true });
  const printed = (variable: string) => new RegExp(`export ${variable}=(\\S+)\n`).exec(running.stdout())?.[1];
  await until(
    () => {
      if (running.child.exitCode !== null) throw new Error(`lessor dev ended: ${running.stderr()}`);
      return printed('DATABASE_URL');
    },
    { timeoutMs: 30_000, what: 'the URLs' },
  );
  return { ...running, queueUrl: printed('QUEUE_URL')!, databaseUrl: printed('DATABASE_URL')! };
}

async function leaseFrom(queueUrl: string) {
  const producer = createHeartbeatProducer({ queueUrl });
  try {
    const run = runStarted();
    await producer.runStarted(run);
    return await producer.waitForLease(run.runId);
  } finally {
    await producer.close();
  }
}

/** Signals the whole process group, as a terminal does on Ctrl-C. */
function interrupt(pid: number | undefined): void {
  process.kill(-pid!, 'SIGINT');
}

/** Postgres and its supervisor, which name the data directory. */
function processesIn(directory: string): string[] {
  return runningProcesses()
    .map(({ pid, command }) => `${pid} ${command}`)
    .filter((line) => line.includes(directory));
}
