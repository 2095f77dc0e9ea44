import { setMaxListeners } from 'node:events';
import { Pool } from 'pg';
import postgres from 'postgres';
import type { Closers } from '../src/lib/closers.ts';
import { openQueues } from '../src/queues/queues.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import { runProgram } from '../testing/program.ts';
import type { ProgramContext } from '../testing/program.ts';
import type { Progress } from '../testing/progress.ts';
import { openRestartableStores } from '../testing/stores/open-stores.ts';
import type { RestartableStores, Stores } from '../testing/stores/open-stores.ts';
import { Faults } from './faults.ts';
import { HeartbeatClient } from './heartbeat-client.ts';
import { summarizeLatency } from './lease-latency.ts';
import { readOptions } from './options.ts';
import { planRuns } from './plan.ts';
import { FINITE_QUEUES, countOpenLeases, untilQuiescent } from './quiescence.ts';
import { Replicas, buildCommand } from './replicas.ts';
import { isSound, readFindings } from './report.ts';
import type { Findings } from './report.ts';
import { Workload } from './workload.ts';

/** For replicas, their successors, lock holders, and connections of killed ones that Postgres has not noticed yet. */
const POSTGRES_SETTINGS = { max_connections: 400 };

const options = readOptions();
const startedAt = new Date();
await runProgram(soak);

async function soak({ closers, progress, signal }: ProgramContext): Promise<void> {
  const timeout = AbortSignal.timeout(options.timeout);
  const ending = AbortSignal.any([timeout, signal]);
  // Each run in flight adds a listener.
  setMaxListeners(0, ending);

  progress.start('building the command');
  await buildCommand();
  progress.start('starting the stores');
  const stores = await openRestartableStores(options.backend, closers, POSTGRES_SETTINGS);
  progress.succeed(`stores started, the queue is on ${stores.backend}; --seed ${options.seed}`);
  const replicas = new Replicas(stores, options.replicas);
  closers.add(() => replicas.stop());
  const pool = openPool(stores, closers);

  const client = new HeartbeatClient(stores.queueUrl, ending);
  closers.add(() => client.close());
  const workload = new Workload({ client, plans: plans(), inFlight: options.inFlight, signal: ending });
  const faults = injectFaults(stores, replicas, workload, ending);
  await publish({ workload, faults, replicas, pool, progress });
  progress.succeed(`${workload.published} runs published in ${client.messages} messages, ${replicas.kills} kills`);

  const queues = openFiniteQueues(stores, closers);
  await becomeQuiescent(queues, pool, progress, ending);
  const sql = postgres(stores.databaseUrl, { max: 1, onnotice: () => undefined });
  closers.add(() => sql.end());
  const findings = await readFindings({ sql, queues, plans: plans(), workload });

  const report = {
    backend: stores.backend,
    seed: options.seed,
    runs: options.runs,
    replicas: options.replicas,
    ...findings,
    messages: client.messages,
    failedAttempts: client.failedAttempts,
    kills: replicas.kills,
    exits: replicas.exits,
    restarts: faults.restarts.postgres + faults.restarts.redis,
    restartsOf: faults.restarts,
    locksHeld: faults.countHolds(),
    leaseLatency: summarizeLatency(workload.leaseWaits, faults.holds),
    timedOut: timeout.aborted,
    seconds: Math.round((Date.now() - startedAt.getTime()) / 100) / 10,
  };
  progress.stop();
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : describe(report));
  if (!isSound(findings) || report.timedOut) process.exitCode = 1;
}

function injectFaults(stores: RestartableStores, replicas: Replicas, workload: Workload, signal: AbortSignal): Faults {
  const { killEvery: killEveryMs, postgresRestarts, redisRestarts, lockHolders, runs, seed } = options;
  const progress = () => workload.published / runs;
  const counts = { postgresRestarts, redisRestarts, lockHolders };
  return new Faults({ stores, replicas, seed, killEveryMs, ...counts, progress, signal });
}

interface Publication {
  workload: Workload;
  faults: Faults;
  replicas: Replicas;
  pool: Pool;
  progress: Progress;
}

/** Publishes all runs, until all faults are injected. */
async function publish({ workload, faults, replicas, pool, progress }: Publication): Promise<void> {
  const work = Promise.all([workload.run(), faults.restarted]);
  await progress.during(work, async () => {
    const open = await countOpenLeases(pool).catch(() => 'an unknown number of');
    const restarts = faults.restarts.postgres + faults.restarts.redis;
    return (
      `${workload.published} of ${options.runs} runs published, ${workload.unfinished.size} in flight, ` +
      `${open} open leases, ${replicas.kills} kills, ${restarts} restarts`
    );
  });
  await faults.stop();
}

async function becomeQuiescent(
  queues: readonly LessorQueue[],
  pool: Pool,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  let remaining = 'unknown';
  const quiescent = untilQuiescent(queues, pool, signal, ({ jobs, leases }) => {
    remaining = `${jobs} jobs and ${leases} open leases remain`;
  });
  await progress.during(quiescent, async () => `waiting for quiescence: ${remaining}`);
  progress.succeed(`quiescent: ${remaining}`);
}

/** The same plans each time. */
function plans() {
  return planRuns(options.seed, options.runs, startedAt);
}

/** A pool that survives restarts of Postgres: it replaces lost connections, and rejects only the queries on them. */
function openPool({ databaseUrl }: Stores, closers: Closers): Pool {
  const pool = new Pool({
    connectionString: databaseUrl,
    max: 1,
    connectionTimeoutMillis: 5_000,
    query_timeout: 30_000,
  });
  pool.on('error', () => undefined);
  closers.add(() => pool.end());
  return pool;
}

function openFiniteQueues({ queueUrl }: Stores, closers: Closers): LessorQueue[] {
  const queues = openQueues(queueUrl, { role: 'consumer', onError: (error) => process.emitWarning(error) });
  closers.add(() => queues.close());
  return FINITE_QUEUES.map((name) => {
    const queue = queues.queue(name);
    closers.add(() => queue.close());
    return queue;
  });
}

function describe({ violations, ...rest }: Findings & Record<string, unknown>): string {
  const lines = Object.entries(rest).map(([name, value]) => `${name.padEnd(16)}${JSON.stringify(value)}`);
  const broken = violations.map(({ invariant, detail }) => `✖ ${invariant}: ${detail}`);
  return ['', ...lines, ...broken, isSound({ violations, ...rest }) ? '✔ sound' : '✖ not sound', ''].join('\n');
}
