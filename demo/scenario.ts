import { execFile, spawn } from 'node:child_process';
import type { ChildProcess, ExecFileException } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { promisify } from 'node:util';
import type { Sql } from 'postgres';
import { RejectedError, RunEndedError, withLease } from '../src/index.ts';
import type { HeartbeatProducer, LeaseStatus, RunStatus } from '../src/index.ts';
import { openQueues } from '../src/queues/queues.ts';
import { LESSOR_FROM_SOURCE, environmentFor } from '../testing/processes.ts';
import type { Stores } from '../testing/stores/open-stores.ts';
import { until } from '../testing/until.ts';

/** A heartbeat run of the demo, and its expected outcome. */
export interface DemoRun {
  title: string;
  companyId: string;
  runId: string;
  /** The statuses in Postgres at the end; `lease` is null where none was granted. */
  expected: { run: RunStatus; lease: LeaseStatus | null };
  drive(run: { companyId: string; runId: string }): Promise<void>;
}

/** What runs are driven with: a producer in this process, and `lessor run` processes on the stores. */
export interface DemoDrivers {
  producer: HeartbeatProducer;
  stores: Stores;
  sql: Sql;
}

const execute = promisify(execFile);

/** Scripts find their lease in their environment, as any command under `lessor run` does. */
const GREETING = `console.log('working in', JSON.parse(process.env.PAPERCLIP_ENVIRONMENT).name)`;
const FAILURE = `console.error('the tests are red'); process.exit(1)`;
const LONG_WORK = `console.log('working'); setTimeout(() => {}, 5000)`;

/** The runs of three companies: every course a run can take. */
export function planRuns(drivers: DemoDrivers): DemoRun[] {
  const companies = [randomUUID(), randomUUID(), randomUUID()] as const;
  const plan = (title: string, companyId: string, expected: DemoRun['expected'], drive: DemoRun['drive']): DemoRun => ({
    title,
    companyId,
    runId: randomUUID(),
    expected,
    drive,
  });

  const ordinary = companies.flatMap((companyId) => [
    plan('succeeds', companyId, { run: 'succeeded', lease: 'released' }, withLeaseHeld(drivers, GREETING)),
    plan('succeeds too', companyId, { run: 'succeeded', lease: 'released' }, withLeaseHeld(drivers, GREETING)),
    plan('fails', companyId, { run: 'failed', lease: 'failed' }, withLeaseHeld(drivers, FAILURE)),
  ]);
  const [first, second, third] = companies;
  return [
    plan('is killed with SIGKILL', first, { run: 'running', lease: 'expired' }, killed(drivers)),
    plan('is cancelled', second, { run: 'cancelled', lease: 'released' }, cancelled(drivers)),
    plan('succeeds under lessor run', third, { run: 'succeeded', lease: 'released' }, withLessorRun(drivers)),
    ...ordinary,
    plan('is started twice', second, { run: 'succeeded', lease: 'released' }, startedTwice(drivers)),
    plan('names an unknown environment', first, { run: 'failed', lease: null }, rejected(drivers)),
    plan('ends before it starts', third, { run: 'cancelled', lease: null }, endedFirst(drivers)),
  ];
}

/** A process under `withLease`, as in a heartbeat service on Node. */
function withLeaseHeld({ producer }: DemoDrivers, script: string): DemoRun['drive'] {
  return async (run) => {
    const work = withLease(producer, run, async (lease, signal) => {
      const env = { ...process.env, PAPERCLIP_ENVIRONMENT: JSON.stringify(lease.environment) };
      await execute(process.execPath, ['--eval', script], { env, signal }).catch((error: ExecFileException) => {
        throw new Error(`exited with code ${error.code}: ${error.stderr?.trim()}`, { cause: error });
      });
    });
    if (script === FAILURE) await errorOf(work);
    else await work;
  };
}

/** A process under the `lessor run` command, as in a service in any language. */
function withLessorRun(drivers: DemoDrivers): DemoRun['drive'] {
  return async (run) => {
    const holder = startLessorRun(drivers, run, ['--eval', GREETING]);
    const [code] = (await once(holder, 'exit')) as [number | null];
    if (code !== 0) throw new Error(`lessor run exited with ${code}`);
  };
}

/** The holder dies without finishing the run: the lease expires, and the sweep ends it. */
function killed(drivers: DemoDrivers): DemoRun['drive'] {
  return async (run) => {
    const holder = startLessorRun(drivers, run, ['--eval', LONG_WORK], ['--ttl', '5s']);
    await firstOutput(holder);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    // The command outlives its holder, and would keep the pipe open.
    holder.stdout!.destroy();
  };
}

function cancelled(drivers: DemoDrivers): DemoRun['drive'] {
  return async (run) => {
    const holder = startLessorRun(drivers, run, ['--eval', LONG_WORK]);
    await firstOutput(holder);
    holder.kill('SIGTERM');
    await once(holder, 'exit');
  };
}

/** The start is published again by a non-Node client, which gives its jobs ids of its own. */
function startedTwice({ producer, stores }: DemoDrivers): DemoRun['drive'] {
  return async (run) => {
    const queues = openQueues(stores.queueUrl, { role: 'consumer', onError: (error) => process.emitWarning(error) });
    const queue = queues.queue('run-started');
    try {
      await withLease(producer, run, async () => {
        const payload = { version: 1, startedAt: new Date().toISOString(), ...run };
        await queue.add('run-started', payload, { jobId: `${run.runId}-again` });
      });
    } finally {
      await queue.close();
      await queues.close();
    }
  };
}

function endedFirst({ producer, sql }: DemoDrivers): DemoRun['drive'] {
  return async (run) => {
    await producer.runFinished({ ...run, status: 'cancelled' });
    await until(async () => (await runStatus(sql, run.runId)) === 'cancelled', { timeoutMs: 60_000 });
    await producer.runStarted(run);
    const error = await errorOf(producer.waitForLease(run.runId));
    if (!(error instanceof RunEndedError)) throw error;
  };
}

/** The lease is rejected with the reason that the failed job shows in the dashboard. */
function rejected({ producer }: DemoDrivers): DemoRun['drive'] {
  return async (run) => {
    const start = { ...run, environment: { issue: randomUUID() } };
    const error = await errorOf(withLease(producer, start, async () => undefined));
    if (!(error instanceof RejectedError)) throw error;
  };
}

function startLessorRun(
  { stores }: DemoDrivers,
  run: { companyId: string; runId: string },
  nodeArguments: string[],
  flags: string[] = [],
): ChildProcess {
  const { companyId, runId } = run;
  const command = ['run', '--company', companyId, '--run', runId, ...flags, '--', process.execPath, ...nodeArguments];
  return spawn(process.execPath, [...LESSOR_FROM_SOURCE, ...command], {
    env: environmentFor(stores),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Resolves once the command under the lease has written its first output. */
async function firstOutput(holder: ChildProcess): Promise<void> {
  await Promise.race([
    once(holder.stdout!, 'data'),
    once(holder, 'exit').then(() => Promise.reject(new Error('lessor run ended before its command started'))),
  ]);
}

async function runStatus(sql: Sql, runId: string): Promise<string | undefined> {
  const [run] = await sql<{ status: string }[]>`select status from lessor.heartbeat_runs where id = ${runId}`;
  return run?.status;
}

async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it should have failed');
}
