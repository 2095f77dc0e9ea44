import { CONTENDERS } from '../contenders/index.ts';
import type { BenchResults } from '../results.ts';
import { BACKENDS } from '../sections/fairness.ts';
import { median } from '../../testing/statistics.ts';
import { drawBars } from './bar-chart.ts';
import type { Bar } from './bar-chart.ts';
import { summariesOf } from './figures.ts';
import { medianCosts } from './json.ts';
import { drawLine } from './line-chart.ts';
import { count } from './markdown-text.ts';

/** The plots of the measured sections, by file name. */
export function plotsOf(results: BenchResults): Map<string, string> {
  const plots = new Map<string, string | undefined>([
    ['throughput.svg', plotThroughput(results)],
    ['costs.svg', plotCosts(results)],
    ['latency.svg', plotLatency(results)],
    ['fairness.svg', plotFairness(results)],
    ['growth.svg', plotGrowth(results)],
    ['replicas.svg', plotReplicas(results)],
    ['memory.svg', plotMemory(results)],
  ]);
  return new Map([...plots].flatMap(([name, plot]) => (plot === undefined ? [] : [[name, plot]])));
}

function plotThroughput({ throughput }: BenchResults): string | undefined {
  const summaries = summariesOf(throughput.many);
  if (summaries.size === 0) return undefined;
  return drawBars({
    title: 'Throughput: medians, and each round as a dot',
    unit: 'jobs a second',
    bars: [...summaries].map(([name, { values }]) => {
      const isOurs = name === 'lessor' || name === 'lessorPostgres';
      return barOf(CONTENDERS[name].label, values, isOurs ? 0 : 1);
    }),
  });
}

function plotCosts(results: BenchResults): string | undefined {
  const names = [...summariesOf(results.throughput.many).keys()];
  if (names.length === 0) return undefined;
  return drawBars({
    title: 'CPU of one job',
    unit: 'microseconds',
    legend: ['worker', 'Postgres', 'Redis'],
    bars: names.map((name) => {
      const { nodeMs = 0, postgresMs = 0, redisMs = 0 } = medianCosts(results, name);
      return {
        label: CONTENDERS[name].label,
        parts: [nodeMs, postgresMs, redisMs].map((milliseconds) => milliseconds * 1_000),
      };
    }),
  });
}

function plotLatency({ latency }: BenchResults): string | undefined {
  if (latency === undefined) return undefined;
  const { rounds, offered } = latency;
  const pair = (what: string, of: 'p50' | 'p99' | 'idleP50' | 'idleP99') => [
    barOf(
      `BullMQ, ${what}`,
      rounds.noop.map((round) => round[of]),
      1,
    ),
    barOf(
      `Lessor, ${what}`,
      rounds.lessor.map((round) => round[of]),
    ),
  ];
  return drawBars({
    title: `From publishing a start to its lease, idle and at ${count(offered)} jobs a second`,
    unit: 'milliseconds',
    bars: [
      ...pair('idle p50', 'idleP50'),
      ...pair('idle p99', 'idleP99'),
      ...pair('p50', 'p50'),
      ...pair('p99', 'p99'),
    ],
  });
}

function plotFairness({ fairness }: BenchResults): string | undefined {
  if (fairness === undefined) return undefined;
  return drawBars({
    title: 'A company with a backlog, and one with single runs',
    unit: 'seconds',
    bars: BACKENDS.flatMap((backend) => {
      const seconds = (of: 'aloneMs' | 'besideMs' | 'p99Ms') =>
        fairness[backend].rounds.map((round) => round[of] / 1_000);
      return [
        barOf(`A’s backlog alone, ${backend}`, seconds('aloneMs')),
        barOf(`A’s backlog beside B, ${backend}`, seconds('besideMs')),
        barOf(`p99 of B’s runs, ${backend}`, seconds('p99Ms'), 1),
      ];
    }),
  });
}

function plotGrowth({ growth }: BenchResults): string | undefined {
  if (growth === undefined) return undefined;
  const { empty, grown, leases } = growth;
  return drawBars({
    title: 'Throughput as data grows',
    unit: 'jobs a second',
    bars: [barOf('empty database', empty, 1), barOf(`${count(leases)} ended leases`, grown)],
  });
}

function plotReplicas({ replicas }: BenchResults): string | undefined {
  if (replicas === undefined) return undefined;
  return drawBars({
    title: 'One worker process, and four',
    unit: 'jobs a second',
    bars: Object.values(replicas).flatMap(({ companies, delayMs, one, four }) => {
      const where = `${count(companies)} companies, ${delayMs} ms`;
      return [barOf(`one, ${where}`, one, 1), barOf(`four, ${where}`, four)];
    }),
  });
}

function plotMemory({ memory }: BenchResults): string | undefined {
  if (memory === undefined) return undefined;
  return drawLine({
    title: 'Memory of a worker process',
    xUnit: 'jobs',
    yUnit: 'MiB',
    points: memory.samples.map(({ jobs, bytes }) => ({ x: jobs, y: bytes / 2 ** 20 })),
    bound: { y: 200, label: '200 MiB' },
  });
}

/** A bar for the median of several measurements. */
function barOf(label: string, values: readonly number[], color = 0): Bar {
  return { label, parts: [median(values)], color, points: values };
}
