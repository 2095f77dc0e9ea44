import { CONTENDERS } from '../contenders/index.ts';
import type { ContenderName } from '../contenders/index.ts';
import type { BenchResults } from '../results.ts';
import { median } from '../../testing/statistics.ts';
import { oneCompanyOf, ratioOf, summariesOf } from './figures.ts';
import type { RatioName } from './figures.ts';

const RATIOS: readonly RatioName[] = ['noop', 'perJob', 'graphileWorker', 'pgBoss', 'groupmq'];

/** The results as one object: figures by key first, then the measurements behind them. */
export function toJson(results: BenchResults): Record<string, unknown> {
  const summaries = summariesOf(results.throughput.many);
  return {
    ...Object.fromEntries([...summaries].map(([name, { median: rate }]) => [name, Math.round(rate)])),
    ratio: Object.fromEntries(RATIOS.map((name) => [name, rounded(ratioOf(results, name)?.median)])),
    oneCompany: { lessor: oneCompanyOf(results, 'lessor'), lessorPostgres: oneCompanyOf(results, 'lessorPostgres') },
    latency: results.latency,
    fairness: results.fairness,
    growth: results.growth,
    replicas: results.replicas,
    memory: results.memory,
    start: results.start,
    rounds: results.throughput,
    spread: Object.fromEntries([...summaries].map(([name, { minimum, maximum }]) => [name, [minimum, maximum]])),
    costs: Object.fromEntries([...summaries.keys()].map((name) => [name, medianCosts(results, name)])),
    settings: Object.fromEntries(Object.entries(CONTENDERS).map(([name, { settings }]) => [name, settings])),
    scale: results.scale,
    machine: results.machine,
    startedAt: results.startedAt,
    seconds: results.seconds,
    secondsOf: results.secondsOf,
    quick: results.quick,
    audits: results.audits,
    violations: results.violations,
    failures: results.failures,
  };
}

/** The costs of one job: medians of all rounds. */
export function medianCosts(results: BenchResults, name: ContenderName) {
  const costs = results.throughput.many[name]!.map((measurement) => measurement.costs);
  const of = (pick: (cost: (typeof costs)[number]) => number | undefined) => {
    const values = costs.map(pick).filter((value) => value !== undefined);
    return values.length === 0 ? undefined : median(values);
  };
  return {
    nodeMs: of((cost) => cost.nodeMs),
    postgresMs: of((cost) => cost.postgresMs),
    redisMs: of((cost) => cost.redisMs),
    walBytes: of((cost) => cost.walBytes),
    transactions: of((cost) => cost.transactions),
    redisCommands: of((cost) => cost.redisCommands),
  };
}

function rounded(value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value * 1_000) / 1_000;
}
