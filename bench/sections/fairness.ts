import { setTimeout as sleep } from 'node:timers/promises';
import type { Sql } from 'postgres';
import { createHeartbeatProducer } from '../../src/index.ts';
import type { HeartbeatProducer } from '../../src/index.ts';
import { auditRuns } from '../audit.ts';
import type { BenchContext } from '../context.ts';
import { publishBacklog, withRunQueues } from '../queued-runs.ts';
import { median, percentile } from '../../testing/statistics.ts';
import { onDatabase } from '../../testing/stores/databases.ts';
import { untilDrained } from '../until-drained.ts';
import { planCompanies, planRuns } from '../workload.ts';
import type { Run } from '../workload.ts';

export type Backend = 'redis' | 'postgres';
export const BACKENDS: readonly Backend[] = ['redis', 'postgres'];

/** A backlog of company A, processed alone, and then beside single runs of company B. */
export interface FairnessRound {
  /** Milliseconds until A's backlog was processed. */
  aloneMs: number;
  besideMs: number;
  /** How many runs of B were published; the percentiles are from publishing a run to its lease. */
  runsOfB: number;
  p50Ms: number;
  p99Ms: number;
}

export interface FairnessResults {
  backlog: number;
  everyMs: number;
  rounds: FairnessRound[];
  /** Median of B's p99 as a share of the time that A's backlog took. */
  share: number;
  /** Median of how much longer A took beside B, as a share. */
  loss: number;
}

const PUBLISH_TIMEOUT_MS = 60_000;

/** How often B's leases are polled. */
const POLL_INTERVAL_MS = 5;

export async function measureFairness(context: BenchContext): Promise<Record<Backend, FairnessResults>> {
  const { fairness, rounds } = context.scale;
  const found: Record<Backend, FairnessRound[]> = { redis: [], postgres: [] };
  for (let round = 1; round <= rounds; round += 1) {
    for (const backend of BACKENDS) {
      if (backend === 'postgres' && round > fairness.roundsOnPostgres) continue;
      context.describe(`fairness ${round}/${rounds}: company A alone, queue on ${backend}`);
      const alone = await measureBacklog(context, backend, false);
      context.describe(`fairness ${round}/${rounds}: company A beside B, queue on ${backend}`);
      const beside = await measureBacklog(context, backend, true);
      found[backend].push({
        aloneMs: alone.elapsedMs,
        besideMs: beside.elapsedMs,
        runsOfB: beside.latencies.length,
        p50Ms: percentile(beside.latencies, 0.5),
        p99Ms: percentile(beside.latencies, 0.99),
      });
    }
  }
  const summarize = (backend: Backend): FairnessResults => ({
    backlog: fairness.backlog[backend],
    everyMs: fairness.everyMs,
    rounds: found[backend],
    share: median(found[backend].map(({ p99Ms, besideMs }) => p99Ms / besideMs)),
    loss: median(found[backend].map(({ aloneMs, besideMs }) => besideMs / aloneMs - 1)),
  });
  return { redis: summarize('redis'), postgres: summarize('postgres') };
}

async function measureBacklog(
  { stores, scale, processes, recordAudit }: BenchContext,
  backend: Backend,
  besideB: boolean,
): Promise<{ elapsedMs: number; latencies: number[] }> {
  const companies = planCompanies(2);
  const runsOfA = planRuns(scale.fairness.backlog[backend], companies.slice(0, 1));
  await stores.emptyRedis();
  const databaseUrl = await stores.freshDatabase(companies);
  const queueUrl = backend === 'redis' ? stores.redisUrl : databaseUrl;
  const worker = processes.named(backend === 'redis' ? 'lessor' : 'lessorPostgres');
  const producer = createHeartbeatProducer({ queueUrl, publishTimeoutMs: PUBLISH_TIMEOUT_MS });
  try {
    return await withRunQueues(queueUrl, async ({ start: queue }) => {
      await queue.pause();
      await publishBacklog(queue, 'start', runsOfA);
      await worker.call('startLessor', { databaseUrl, queueUrl });
      const startedAt = performance.now();
      await queue.resume();
      const done = new AbortController();
      const companyB = { companyId: companies[1]!, everyMs: scale.fairness.everyMs, signal: done.signal };
      const [elapsedMs, b] = await Promise.all([
        untilGranted(databaseUrl, runsOfA)
          .then(() => performance.now() - startedAt)
          .finally(() => done.abort()),
        besideB ? publishSingly(databaseUrl, producer, companyB) : { runs: [], latencies: [] },
      ]);
      const runs = [...runsOfA, ...b.runs];
      recordAudit(`fairness on ${backend}`, await auditRuns(databaseUrl, runs, { ended: false }));
      return { elapsedMs, latencies: b.latencies };
    });
  } finally {
    await producer.close();
    await worker.call('stopWorker');
  }
}

/** Resolves once all runs of a company have a lease. */
async function untilGranted(databaseUrl: string, runs: readonly Run[]): Promise<void> {
  await onDatabase(databaseUrl, (sql) =>
    untilDrained(async () => {
      const [granted] = await sql`
        select count(*)::int as leases from lessor.environment_leases where company_id = ${runs[0]!.companyId}`;
      return runs.length - granted!['leases'];
    }),
  );
}

interface SmallCompany {
  companyId: string;
  everyMs: number;
  signal: AbortSignal;
}

/** Publishes single runs until the signal is aborted. Returns how long each waited for its lease. */
async function publishSingly(
  databaseUrl: string,
  producer: HeartbeatProducer,
  { companyId, everyMs, signal }: SmallCompany,
): Promise<{ runs: Run[]; latencies: number[] }> {
  const runs: Run[] = [];
  const latencies: number[] = [];
  const publishedAt = new Map<string, number>();
  await onDatabase(databaseUrl, async (sql) => {
    const startedAt = performance.now();
    while (!signal.aborted || publishedAt.size > 0) {
      const due = !signal.aborted && performance.now() >= startedAt + runs.length * everyMs;
      if (due) {
        const [run] = planRuns(1, [companyId]);
        runs.push(run!);
        publishedAt.set(run!.runId, performance.now());
        await producer.runStarted(run!);
      }
      for (const runId of await grantedOf(sql, [...publishedAt.keys()])) {
        latencies.push(performance.now() - publishedAt.get(runId)!);
        publishedAt.delete(runId);
      }
      await sleep(POLL_INTERVAL_MS);
    }
  });
  return { runs, latencies };
}

async function grantedOf(sql: Sql, runIds: readonly string[]): Promise<string[]> {
  if (runIds.length === 0) return [];
  const rows = await sql<{ id: string }[]>`
    select heartbeat_run_id as id from lessor.environment_leases where heartbeat_run_id = any(${runIds}::uuid[])`;
  return rows.map((row) => row.id);
}
