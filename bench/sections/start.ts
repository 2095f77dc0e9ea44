import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { auditRuns } from '../audit.ts';
import type { BenchContext } from '../context.ts';
import { publishBacklog, withRunQueues } from '../queued-runs.ts';
import { median } from '../statistics.ts';
import { onDatabase } from '../stores.ts';
import { planCompanies, planRuns } from '../workload.ts';

export interface StartResults {
  /** From spawning `lessor worker` until the first lease is there, each time, in milliseconds. */
  values: number[];
  median: number;
}

const COMMAND = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

const LOOK_AGAIN_MS = 5;

/** A worker that has not granted a lease by then does not start. */
const SLOW_BATCH_THRESHOLD_MS = 30_000;

/** Measures how long the command takes to its first lease, for a run that waits on Redis. */
export async function measureStart(context: BenchContext): Promise<StartResults> {
  const { times } = context.scale.start;
  const values: number[] = [];
  for (let time = 1; time <= times; time += 1) {
    context.tell(`start ${time}/${times}: lessor worker`);
    values.push(await measureOnce(context));
  }
  return { values, median: median(values) };
}

async function measureOnce({ stores, note }: BenchContext): Promise<number> {
  const companies = planCompanies(1);
  const runs = planRuns(1, companies);
  await stores.emptyRedis();
  const databaseUrl = await stores.freshDatabase(companies);
  await withRunQueues(stores.redisUrl, (queues) => publishBacklog(queues.start, 'start', runs));

  const startedAt = performance.now();
  const worker = spawn(process.execPath, [COMMAND, 'worker'], {
    env: { ...process.env, DATABASE_URL: databaseUrl, QUEUE_URL: stores.redisUrl, LOG_LEVEL: 'error' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const exited = once(worker, 'exit');
  try {
    await untilFirstLease(databaseUrl, () => worker.exitCode ?? worker.signalCode);
    const elapsedMs = performance.now() - startedAt;
    note('start', await auditRuns(databaseUrl, runs, { ended: false }));
    return elapsedMs;
  } finally {
    worker.kill('SIGTERM');
    await exited;
  }
}

async function untilFirstLease(databaseUrl: string, readExit: () => number | string | null): Promise<void> {
  const deadline = performance.now() + SLOW_BATCH_THRESHOLD_MS;
  await onDatabase(databaseUrl, async (sql) => {
    for (;;) {
      const [lease] = await sql`select id from lessor.environment_leases limit 1`;
      if (lease !== undefined) return;
      if (readExit() !== null) throw new Error(`the worker ended with ${readExit()} before it granted a lease`);
      if (performance.now() > deadline)
        throw new Error(`the worker granted no lease within ${SLOW_BATCH_THRESHOLD_MS} ms`);
      await sleep(LOOK_AGAIN_MS);
    }
  });
}
