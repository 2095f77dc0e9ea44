import { markdownTable } from 'markdown-table';
import type { BenchResults } from '../results.ts';
import { BACKENDS } from '../sections/fairness.ts';
import { median } from '../../testing/statistics.ts';
import { oneCompanyOf } from './figures.ts';
import { count, figures, lines, milliseconds, percent } from './markdown-text.ts';

type Show = (name: string, what: string) => string;

/** The sections besides the throughput; an empty text for each that was not measured. */
export function describeSections(results: BenchResults, show: Show): string[] {
  return [
    describeOneCompany(results),
    describeLatency(results, show('latency.svg', 'Latency of Lessor and of BullMQ')),
    describeFairness(results, show('fairness.svg', 'A backlog beside single runs')),
    describeGrowth(results, show('growth.svg', 'Throughput on an empty and on a grown database')),
    describeReplicas(results, show('replicas.svg', 'Throughput of one and of four processes')),
    describeMemory(results, show('memory.svg', 'Memory of a worker over its jobs')),
    describeStart(results),
  ];
}

function describeOneCompany(results: BenchResults): string {
  const rows = (['lessor', 'lessorPostgres'] as const).flatMap((name) => {
    const found = oneCompanyOf(results, name);
    if (found === undefined) return [];
    return [[name, count(found.rate), found.ratio === undefined ? '' : found.ratio.toFixed(2)]];
  });
  if (rows.length === 0) return '';
  const head = ['', 'jobs/s', `over ${results.scale.companies} companies`];
  return lines(['## One company', markdownTable([head, ...rows], { align: ['l', 'r', 'r'] })]);
}

function describeLatency({ latency }: BenchResults, plot: string): string {
  if (latency === undefined) return '';
  const { capacity, offered, rounds, ratio, idleAbove } = latency;
  const row = (what: string, of: 'p50' | 'p99' | 'idleP50' | 'idleP99', compared: string) => [
    what,
    milliseconds(median(rounds.noop.map((round) => round[of]))),
    milliseconds(median(rounds.lessor.map((round) => round[of]))),
    compared,
    rounds.lessor.map((round) => milliseconds(round[of])).join(' · '),
  ];
  return lines([
    '## Latency',
    'From publishing a start until its publisher is notified through the queue’s events, in milliseconds. A fifth of the ' +
      `capacity of ${count(capacity)} jobs a second is offered: ${count(offered)}, half of them starts.`,
    markdownTable(
      [
        ['', 'BullMQ, empty processor', 'Lessor', '', 'Lessor, each round'],
        row('p50', 'p50', `${ratio.p50.toFixed(2)}×`),
        row('p99', 'p99', `${ratio.p99.toFixed(2)}×`),
        row('idle, p50', 'idleP50', `${idleAbove >= 0 ? '+' : ''}${idleAbove.toFixed(2)} ms`),
        row('idle, p99', 'idleP99', ''),
      ],
      { align: ['l', 'r', 'r', 'r', 'l'] },
    ),
    plot,
  ]);
}

function describeFairness({ fairness }: BenchResults, plot: string): string {
  if (fairness === undefined) return '';
  const rows = BACKENDS.map((backend) => {
    const { backlog, everyMs, rounds, share, loss } = fairness[backend];
    return [
      backend,
      count(backlog),
      milliseconds(everyMs),
      milliseconds(median(rounds.map((round) => round.aloneMs))),
      milliseconds(median(rounds.map((round) => round.besideMs))),
      milliseconds(median(rounds.map((round) => round.p50Ms))),
      milliseconds(median(rounds.map((round) => round.p99Ms))),
      percent(share),
      percent(loss),
    ];
  });
  const head = [
    'queue',
    'A’s jobs',
    'B every',
    'A alone',
    'A beside B',
    'B’s p50',
    'B’s p99',
    'of A’s time',
    'A loses',
  ];
  return lines([
    '## Fairness',
    'Company A has a backlog, company B publishes single runs. All times in milliseconds.',
    markdownTable([head, ...rows], { align: ['l', ...head.slice(1).map(() => 'r')] }),
    plot,
  ]);
}

function describeGrowth({ growth }: BenchResults, plot: string): string {
  if (growth === undefined) return '';
  const { leases, activityRows, empty, grown, ratio } = growth;
  const rows = [
    ['empty', count(median(empty)), figures(empty)],
    [`${count(leases)} ended leases, ${count(activityRows)} activity rows`, count(median(grown)), figures(grown)],
  ];
  return lines([
    '## Growth',
    markdownTable([['database', 'jobs/s', 'each round'], ...rows], { align: ['l', 'r', 'l'] }),
    `The grown database over the empty one: ${ratio.toFixed(2)}.`,
    plot,
  ]);
}

function describeReplicas({ replicas }: BenchResults, plot: string): string {
  if (replicas === undefined) return '';
  const rows = Object.values(replicas).map(({ companies, delayMs, concurrency, one, four, ratio }) => [
    count(companies),
    `${delayMs} ms`,
    count(concurrency),
    count(median(one)),
    count(median(four)),
    ratio.toFixed(2),
    figures(four),
  ]);
  const head = ['companies', 'delay', 'concurrency each', 'one, jobs/s', 'four, jobs/s', 'ratio', 'four, each round'];
  return lines([
    '## Replicas',
    'One worker process, and four. The delay is added to each round trip to Postgres by a proxy.',
    markdownTable([head, ...rows], { align: ['r', 'r', 'r', 'r', 'r', 'r', 'l'] }),
    plot,
  ]);
}

const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(0);

function describeMemory({ memory }: BenchResults, plot: string): string {
  if (memory === undefined) return '';
  const { jobs, warmUpJobs, minimum, maximum, deviation } = memory;
  return lines([
    '## Memory',
    `Over ${count(jobs)} jobs; after the first ${count(warmUpJobs)} between ${mebibytes(minimum)} and ` +
      `${mebibytes(maximum)} MiB, at most ${percent(deviation)} from the median of ${mebibytes(memory.median)} MiB.`,
    plot,
  ]);
}

function describeStart({ start }: BenchResults): string {
  if (start === undefined) return '';
  return lines([
    '## Start',
    `From spawning \`lessor worker\` to its first lease, on Redis: ${count(start.median)} ms (${figures(start.values)}).`,
  ]);
}
