import { setTimeout as sleep } from 'node:timers/promises';
import { withTimeout } from '../../src/lib/abort.ts';
import { auditRuns } from '../audit.ts';
import type { BenchContext } from '../context.ts';
import { measureContender } from '../measure-contender.ts';
import { openProbe } from '../run-probe.ts';
import type { ProbedQueue, RunProbe } from '../run-probe.ts';
import { median, percentile, ratios } from '../../testing/statistics.ts';
import { planCompanies, planRuns } from '../workload.ts';
import type { Run } from '../workload.ts';

/** Milliseconds from publishing a run's start until its publisher is notified of its lease. */
export interface LatencyRound {
  /** At a fifth of capacity. */
  p50: number;
  p99: number;
  /** Of single runs on an idle system. */
  idleP50: number;
  idleP99: number;
}

export interface LatencyResults {
  /** Jobs per second of Lessor at full load, and how many were offered. */
  capacity: number;
  offered: number;
  rounds: Readonly<Record<ProbedQueue, LatencyRound[]>>;
  /** Medians of the quotients, round by round, of Lessor's and the empty processor's. */
  ratio: { p50: number; p99: number };
  /** Median of the differences of the medians, in milliseconds. */
  idleAbove: number;
}

const SHARE_OF_CAPACITY = 0.2;

/** Jobs that take longer than this after the last one was published are considered lost. */
const COMPLETION_TIMEOUT_MS = 60_000;

/** A random pause between two single runs, so that they do not synchronize with any timer. */
const IDLE_PAUSE_MS = { shortest: 5, longest: 25 };

/** Measures Lessor on Redis beside BullMQ with an empty processor, at the same rate. */
export async function measureLatency(context: BenchContext): Promise<LatencyResults> {
  const { companies, latency, rounds } = context.scale;
  context.describe('latency: capacity');
  const { rate: capacity } = await measureContender(context, 'lessor', { pairs: latency.capacityPairs, companies });
  const offered = capacity * SHARE_OF_CAPACITY;
  const found: Record<ProbedQueue, LatencyRound[]> = { noop: [], lessor: [] };
  for (let round = 1; round <= rounds; round += 1) {
    for (const queue of ['noop', 'lessor'] as const) {
      context.describe(`latency ${round}/${rounds}: ${queue}, ${Math.round(offered)} jobs a second`);
      found[queue].push(await measureQueue(context, queue, offered));
    }
  }
  const quotients = (of: 'p50' | 'p99') =>
    ratios(
      found.lessor.map((round) => round[of]),
      found.noop.map((round) => round[of]),
    );
  return {
    capacity,
    offered,
    rounds: found,
    ratio: { p50: median(quotients('p50')), p99: median(quotients('p99')) },
    idleAbove: median(found.lessor.map((round, number) => round.idleP50 - found.noop[number]!.idleP50)),
  };
}

async function measureQueue(context: BenchContext, queue: ProbedQueue, offered: number): Promise<LatencyRound> {
  const { stores, processes, scale } = context;
  const { redisUrl } = stores;
  const companies = planCompanies(scale.companies);
  await stores.emptyRedis();
  const databaseUrl = await stores.freshDatabase(companies);
  const worker = processes.named(queue);
  if (queue === 'lessor') await worker.call('startLessor', { databaseUrl, queueUrl: redisUrl });
  else await worker.call('startNoop', redisUrl);
  const probe = await openProbe(queue, redisUrl);
  try {
    // Half of what is offered are starts.
    const { warmUpSeconds, seconds } = scale.latency;
    const runs = planRuns(Math.round((offered * (warmUpSeconds + seconds)) / 2), companies);
    const timeoutMs = (warmUpSeconds + seconds) * 1_000 + COMPLETION_TIMEOUT_MS;
    const loaded = await withTimeout(timeoutMs, () => offerSteadily(probe, runs, offered, warmUpSeconds));
    const single = planRuns(scale.latency.idleRuns, companies);
    const idle = await withTimeout(COMPLETION_TIMEOUT_MS, () => runSingly(probe, single));
    if (queue === 'lessor') context.recordAudit('latency', await auditRuns(databaseUrl, [...runs, ...single]));
    return {
      p50: percentile(loaded, 0.5),
      p99: percentile(loaded, 0.99),
      idleP50: percentile(idle, 0.5),
      idleP99: percentile(idle, 0.99),
    };
  } finally {
    await probe.close();
    await worker.call('stopWorker');
  }
}

/**
 * Publishes starts and finishes at a steady rate, whether or not earlier ones are done, and waits for all of them.
 * @returns the latencies of those that were published after the warm-up
 */
async function offerSteadily(
  probe: RunProbe,
  runs: readonly Run[],
  perSecond: number,
  warmUpSeconds: number,
): Promise<number[]> {
  const warmUp: number[] = [];
  const latencies: number[] = [];
  const published: Promise<void>[] = [];
  const startedAt = performance.now();
  for (let next = 0; next < runs.length;) {
    const elapsedSeconds = (performance.now() - startedAt) / 1_000;
    const due = Math.min(Math.floor(elapsedSeconds * (perSecond / 2)) + 1, runs.length);
    for (; next < due; next += 1) {
      published.push(live(probe, runs[next]!, elapsedSeconds < warmUpSeconds ? warmUp : latencies));
    }
    await sleep(1);
  }
  await Promise.all(published);
  return latencies;
}

async function runSingly(probe: RunProbe, runs: readonly Run[]): Promise<number[]> {
  const latencies: number[] = [];
  const { shortest, longest } = IDLE_PAUSE_MS;
  for (const run of runs) {
    await live(probe, run, latencies);
    await sleep(shortest + Math.random() * (longest - shortest));
  }
  return latencies;
}

/** Starts a run, and finishes it once it has its lease. */
async function live(probe: RunProbe, run: Run, latencies: number[]): Promise<void> {
  const publishedAt = performance.now();
  await probe.start(run);
  latencies.push(performance.now() - publishedAt);
  await probe.finish(run);
}
