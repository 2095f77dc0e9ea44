import { fileURLToPath } from 'node:url';
import { spawnWorker } from '../../testing/processes.ts';
import type { NodeProcess } from '../../testing/processes.ts';
import { onDatabase } from '../../testing/stores/databases.ts';
import { until } from '../../testing/until.ts';
import { auditRuns } from '../audit.ts';
import type { BenchContext } from '../context.ts';
import { publishBacklog, withRunQueues } from '../queued-runs.ts';
import { median } from '../../testing/statistics.ts';
import { planCompanies, planRuns } from '../workload.ts';

export interface StartResults {
  /** Milliseconds from spawning `lessor worker` to the first lease, each time. */
  values: number[];
  median: number;
}

/** The command, compiled with the bench. */
const COMMAND = [fileURLToPath(new URL('../../src/cli.js', import.meta.url))];

const POLL_INTERVAL_MS = 5;

/** A worker that has granted no lease by then does not start. */
const START_TIMEOUT_MS = 30_000;

/** Measures how long the command takes to grant its first lease, to a run that is waiting in Redis. */
export async function measureStart(context: BenchContext): Promise<StartResults> {
  const { times } = context.scale.start;
  const values: number[] = [];
  for (let time = 1; time <= times; time += 1) {
    context.describe(`start ${time}/${times}: lessor worker`);
    values.push(await measureOnce(context));
  }
  return { values, median: median(values) };
}

async function measureOnce({ stores, recordAudit }: BenchContext): Promise<number> {
  const companies = planCompanies(1);
  const runs = planRuns(1, companies);
  await stores.emptyRedis();
  const databaseUrl = await stores.freshDatabase(companies);
  await withRunQueues(stores.redisUrl, (queues) => publishBacklog(queues.start, 'start', runs));

  const startedAt = performance.now();
  const worker = spawnWorker({ databaseUrl, queueUrl: stores.redisUrl }, [], { command: COMMAND });
  try {
    await untilFirstLease(databaseUrl, worker);
    const elapsedMs = performance.now() - startedAt;
    recordAudit('start', await auditRuns(databaseUrl, runs, { ended: false }));
    return elapsedMs;
  } finally {
    await worker.stop();
  }
}

async function untilFirstLease(databaseUrl: string, worker: NodeProcess): Promise<void> {
  await onDatabase(databaseUrl, async (sql) => {
    const hasLease = async () => (await sql`select from lessor.environment_leases limit 1`).length > 0;
    await until(async () => (await hasLease()) || worker.exit() !== undefined, {
      timeoutMs: START_TIMEOUT_MS,
      intervalMs: POLL_INTERVAL_MS,
      what: 'the first lease',
    });
    if (!(await hasLease())) throw new Error(`the worker ended with ${worker.exit()} before it granted a lease`);
  });
}
