import { setMaxListeners } from 'node:events';
import { Pool } from 'pg';
import postgres from 'postgres';
import { openQueues } from '../src/queues/queues.ts';
import type { LessorQueue } from '../src/queues/queues.ts';
import { Closers } from '../test/support/closers.ts';
import { Faults } from './faults.ts';
import { HeartbeatClient } from './heartbeat-client.ts';
import { readOptions } from './options.ts';
import { planRuns } from './plan.ts';
import { Progress } from './progress.ts';
import { ENDING_QUEUES, countOpenLeases, untilQuiet } from './quiescence.ts';
import { Replicas, buildCommand } from './replicas.ts';
import { isSound, readFindings } from './report.ts';
import type { Findings } from './report.ts';
import { openStores } from './stores.ts';
import type { SoakStores } from './stores.ts';
import { Workload } from './workload.ts';

const options = readOptions();
const startedAt = new Date();
const timeIsUp = AbortSignal.timeout(options.timeout);
const givingUp = new AbortController();
const ending = AbortSignal.any([timeIsUp, givingUp.signal]);
// Every run that is under way listens to it.
setMaxListeners(0, ending);
const closers = new Closers();
const progress = new Progress();
let closing: Promise<void> | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void interrupt(signal));

try {
  await soak();
} finally {
  await close();
}

async function soak(): Promise<void> {
  progress.start('building the command');
  await buildCommand();
  progress.start('starting the stores');
  const stores = await openStores(options.backend, closers);
  progress.succeed(`stores are up, the queue is on ${stores.backend}; --seed ${options.seed}`);
  const replicas = new Replicas(stores, options.replicas);
  closers.push(() => replicas.stop());
  const pool = openPool(stores);

  const { workload, faults, client } = await publish(stores, replicas, pool);
  const queues = openEndingQueues(stores);
  await comeToRest(queues, pool);
  const findings = await readFindings({ sql: openSql(stores), queues, plans: plans(), workload });

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
    timedOut: timeIsUp.aborted,
    seconds: Math.round((Date.now() - startedAt.getTime()) / 100) / 10,
  };
  progress.stop();
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : describe(report));
  if (!isSound(findings) || report.timedOut) process.exitCode = 1;
}

/** Publishes all runs, under all faults. */
async function publish(stores: SoakStores, replicas: Replicas, pool: Pool) {
  const { killEvery: killEveryMs, postgresRestarts, redisRestarts, runs, seed, underWay } = options;
  const client = new HeartbeatClient(stores.queueUrl, ending);
  closers.push(() => client.close());
  const workload = new Workload({ client, plans: plans(), underWay, signal: ending });
  const faults = new Faults({
    stores,
    replicas,
    seed,
    killEveryMs,
    postgresRestarts,
    redisRestarts,
    progress: () => workload.published / runs,
    signal: ending,
  });
  const work = Promise.all([workload.run(), faults.restarted]);
  await progress.during(work, async () => {
    const open = await countOpenLeases(pool).catch(() => 'an unknown number of');
    const restarts = faults.restarts.postgres + faults.restarts.redis;
    return (
      `${workload.published} of ${runs} runs published, ${workload.unfinished.size} under way, ` +
      `${open} open leases, ${replicas.kills} kills, ${restarts} restarts`
    );
  });
  await faults.stop();
  progress.succeed(`${workload.published} runs published in ${client.messages} messages, ${replicas.kills} kills`);
  return { workload, faults, client };
}

async function comeToRest(queues: readonly LessorQueue[], pool: Pool): Promise<void> {
  let standing = 'unknown';
  const quiet = untilQuiet(queues, pool, ending, ({ jobs, leases }) => {
    standing = `${jobs} jobs and ${leases} open leases left`;
  });
  await progress.during(quiet, async () => `coming to rest: ${standing}`);
  progress.succeed(`at rest: ${standing}`);
}

/** The same ones each time. */
function plans() {
  return planRuns(options.seed, options.runs, startedAt);
}

/** Outlasts restarts of Postgres. */
function openPool({ postgres: { url } }: SoakStores): Pool {
  const pool = new Pool({ connectionString: url, max: 1, connectionTimeoutMillis: 5_000, query_timeout: 30_000 });
  // Lost connections are made anew, and a query that was under way rejects.
  pool.on('error', () => undefined);
  closers.push(() => pool.end());
  return pool;
}

function openSql({ postgres: { url } }: SoakStores): postgres.Sql {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  closers.push(() => sql.end());
  return sql;
}

function openEndingQueues({ queueUrl }: SoakStores): LessorQueue[] {
  const queues = openQueues(queueUrl, { role: 'consumer', onError: (error) => process.emitWarning(error) });
  closers.push(() => queues.close());
  return ENDING_QUEUES.map((name) => {
    const queue = queues.queue(name);
    closers.push(() => queue.close());
    return queue;
  });
}

function describe({ violations, ...rest }: Findings & Record<string, unknown>): string {
  const lines = Object.entries(rest).map(([name, value]) => `${name.padEnd(16)}${JSON.stringify(value)}`);
  const broken = violations.map(({ invariant, detail }) => `✖ ${invariant}: ${detail}`);
  return ['', ...lines, ...broken, isSound({ violations, ...rest }) ? '✔ sound' : '✖ not sound', ''].join('\n');
}

async function interrupt(signal: NodeJS.Signals): Promise<void> {
  await close();
  process.exit(signal === 'SIGINT' ? 130 : 143);
}

/** Once, also when the soak fails of being interrupted. */
function close(): Promise<void> {
  givingUp.abort();
  progress.stop();
  closing ??= closers.close();
  return closing;
}
