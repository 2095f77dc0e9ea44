import { TcpProxy } from '../../testing/tcp-proxy.ts';
import { auditRuns } from '../audit.ts';
import type { BenchContext } from '../context.ts';
import { countUnfinished, publishBacklog, withRunQueues } from '../queued-runs.ts';
import type { RunQueues } from '../queued-runs.ts';
import { median, ratios } from '../../testing/statistics.ts';
import { untilDrained } from '../until-drained.ts';
import { planCompanies, planRuns } from '../workload.ts';
import type { Phase, Run } from '../workload.ts';

const REPLICAS = 4;

/** What is compared: one process with several. */
const CASES = {
  manyCompanies: { companies: 1_000, delayMs: 5, concurrency: 25 },
  fewCompanies: { companies: 10, delayMs: 5, concurrency: 25 },
  withoutDelay: { companies: 1_000, delayMs: 0, concurrency: 200 },
} as const;
export type ReplicasCase = keyof typeof CASES;

export interface ReplicasResult {
  companies: number;
  /** Added to each round trip to Postgres. */
  delayMs: number;
  /** Of each process. */
  concurrency: number;
  /** Jobs per second, round by round, of one process and of four. */
  one: number[];
  four: number[];
  /** Median of the quotients, round by round. */
  ratio: number;
}

/** Measures Lessor on Redis with one process and with four, near Postgres and far from it. */
export async function measureReplicas(context: BenchContext): Promise<Record<ReplicasCase, ReplicasResult>> {
  const { rounds } = context.scale;
  const rates = Object.fromEntries(
    Object.keys(CASES).map((name) => [name, { one: [], four: [] }]),
  ) as unknown as Record<ReplicasCase, { one: number[]; four: number[] }>;
  for (let round = 1; round <= rounds; round += 1) {
    for (const name of Object.keys(CASES) as ReplicasCase[]) {
      const { companies, delayMs } = CASES[name];
      const where = `${companies} companies, ${delayMs} ms away`;
      context.describe(`replicas ${round}/${rounds}: one process, ${where}`);
      rates[name].one.push(await measureWith(context, 1, name));
      context.describe(`replicas ${round}/${rounds}: ${REPLICAS} processes, ${where}`);
      rates[name].four.push(await measureWith(context, REPLICAS, name));
    }
  }
  const result = (name: ReplicasCase): ReplicasResult => {
    const { one, four } = rates[name];
    return { ...CASES[name], one, four, ratio: median(ratios(four, one)) };
  };
  return {
    manyCompanies: result('manyCompanies'),
    fewCompanies: result('fewCompanies'),
    withoutDelay: result('withoutDelay'),
  };
}

/** Jobs per second of a number of processes. */
async function measureWith(context: BenchContext, replicas: number, name: ReplicasCase): Promise<number> {
  const { stores, scale, processes } = context;
  const { delayMs, concurrency } = CASES[name];
  const companies = planCompanies(CASES[name].companies);
  const runs = planRuns(delayMs > 0 ? scale.replicas.delayedPairs : scale.replicas.directPairs, companies);
  await stores.emptyRedis();
  const databaseUrl = await stores.freshDatabase(companies);
  const queueUrl = stores.redisUrl;
  const workers = Array.from({ length: replicas }, (_, number) =>
    processes.named(number === 0 ? 'lessor' : `replica ${number + 1}`),
  );
  const proxy = await TcpProxy.inFrontOf(databaseUrl);
  // A network adds its delay once per round trip.
  proxy.slow(delayMs, 'to the server');
  try {
    const settings = { databaseUrl: delayMs > 0 ? proxy.urlFor(databaseUrl) : databaseUrl, queueUrl, concurrency };
    await Promise.all(workers.map((worker) => worker.call('startLessor', settings)));
    const elapsedMs = await withRunQueues(queueUrl, async (queues) => {
      return (await processBacklog(queues, 'start', runs)) + (await processBacklog(queues, 'finish', runs));
    });
    context.recordAudit('replicas', await auditRuns(databaseUrl, runs));
    return (2 * runs.length * 1_000) / elapsedMs;
  } finally {
    await Promise.all(workers.map((worker) => worker.call('stopWorker')));
    await proxy.close();
  }
}

/** Milliseconds to process a whole backlog. */
async function processBacklog(queues: RunQueues, phase: Phase, runs: readonly Run[]): Promise<number> {
  const queue = queues[phase];
  await queue.pause();
  await publishBacklog(queue, phase, runs);
  const startedAt = performance.now();
  await queue.resume();
  await untilDrained(() => countUnfinished(queue));
  return performance.now() - startedAt;
}
