import { markdownTable } from 'markdown-table';
import { CONTENDERS, CONTENDER_NAMES } from '../contenders/index.ts';
import type { BenchResults } from '../results.ts';
import { POSTGRES_SETTINGS, REDIS_SETTINGS } from '../stores.ts';
import { ratioOf, summariesOf } from './figures.ts';
import type { RatioName } from './figures.ts';
import { medianCosts } from './json.ts';
import { describeSections } from './markdown-sections.ts';
import { count, figures, lines, list } from './markdown-text.ts';
import { targetsOf } from './targets.ts';

/** The report as a Markdown page, with the given plots. */
export function toMarkdown(results: BenchResults, plots: ReadonlySet<string>): string {
  const show = (name: string, what: string) => (plots.has(name) ? `![${what}](${name})` : '');
  return lines([
    '# Bench report',
    introduce(results),
    describeTargets(results),
    describeThroughput(results, show('throughput.svg', 'Throughput of each contender')),
    describeCosts(results, show('costs.svg', 'CPU of one job, of each contender')),
    ...describeSections(results, show),
    describeAudit(results),
    describeSettings(results),
  ]);
}

function introduce({ startedAt, seconds, quick, scale, machine }: BenchResults): string {
  const what = quick ? 'a quick bench, which only shows that everything runs' : 'a full bench';
  return lines([
    `${startedAt.slice(0, 10)}, ${what}: ${scale.rounds} interleaved rounds, ${count(seconds)} seconds, on ${machine.cpu}, ` +
      `${machine.cores} cores, ${machine.memoryGb} GiB, ${machine.system}, Node ${machine.node} (${machine.nodeFlags.join(' ')}), ` +
      `Postgres ${machine.postgres}, Redis ${machine.redis}.`,
    'Figures are medians of the rounds. A ratio is the median of the quotients of each round, as what slows a round down ' +
      'slows down all that is in it.',
  ]);
}

function describeTargets(results: BenchResults): string {
  const measured = targetsOf(results).filter((target) => target.measured !== undefined);
  if (measured.length === 0) return '';
  const rows = measured.map(({ what, bar, measured: found, holds }) => [what, bar, found!, holds ? 'yes' : 'no']);
  return lines(['## Targets', markdownTable([['what', 'bar', 'measured', 'holds'], ...rows])]);
}

const RATIO_NAMES: Readonly<Record<string, RatioName>> = {
  noop: 'noop',
  perJobTransaction: 'perJob',
  graphileWorker: 'graphileWorker',
  pgBoss: 'pgBoss',
  groupmq: 'groupmq',
};

function describeThroughput(results: BenchResults, plot: string): string {
  const summaries = summariesOf(results.throughput.many);
  if (summaries.size === 0) return '';
  const rows = [...summaries].map(([name, { median, minimum, maximum, values }]) => {
    const ratioName = RATIO_NAMES[name];
    const ratio = ratioName && ratioOf(results, ratioName);
    return [
      CONTENDERS[name].title,
      count(median),
      `${count(minimum)} to ${count(maximum)}`,
      ratio === undefined ? '' : ratio.median.toFixed(2),
      figures(values),
      count(results.scale.pairs[name]),
    ];
  });
  return lines([
    '## Throughput',
    `Starts and then finishes of runs of ${results.scale.companies} companies, which all wait when the clock starts; it ` +
      'stops when the last one is done. Each contender has a worker process of its own, and each round a database of its own.',
    markdownTable([['', 'jobs/s', 'spread', 'Lessor over it', 'each round', 'pairs a round'], ...rows], {
      align: ['l', 'r', 'r', 'r', 'l', 'r'],
    }),
    plot,
  ]);
}

function describeCosts(results: BenchResults, plot: string): string {
  const names = [...summariesOf(results.throughput.many).keys()];
  if (names.length === 0) return '';
  const rows = names.map((name) => {
    const { nodeMs, postgresMs, redisMs, walBytes, transactions, redisCommands } = medianCosts(results, name);
    const microseconds = [nodeMs, postgresMs, redisMs].map((ms) => (ms === undefined ? '?' : count(ms * 1_000)));
    return [
      CONTENDERS[name].title,
      ...microseconds,
      count(walBytes ?? 0),
      (transactions ?? 0).toFixed(3),
      (redisCommands ?? 0).toFixed(1),
    ];
  });
  const head = ['', 'worker, µs', 'Postgres, µs', 'Redis, µs', 'WAL, bytes', 'transactions', 'Redis commands'];
  return lines([
    '## What one job costs',
    'CPU time, and what is written. These figures hardly depend on other load on the machine.',
    markdownTable([head, ...rows], { align: ['l', 'r', 'r', 'r', 'r', 'r', 'r'] }),
    plot,
  ]);
}

function describeAudit({ audits, violations, failures }: BenchResults): string {
  return lines([
    '## Audit',
    violations.length === 0
      ? `The rows of all ${audits} measurements were audited: every run is there exactly once, with one lease and each ` +
        'event told once, and every invariant holds that the contender can keep.'
      : lines([`${violations.length} violations in ${audits} measurements:`, list(violations)]),
    failures.length === 0 ? '' : lines(['Failed measurements:', list(failures)]),
  ]);
}

function describeSettings({ machine }: BenchResults): string {
  const contenders = CONTENDER_NAMES.map((name) => {
    const { title, settings, notPromised } = CONTENDERS[name];
    const without = notPromised === undefined ? '' : `; cannot keep ${notPromised.join(', ')}`;
    return [`\`${name}\``, title + without, `\`${JSON.stringify(settings)}\``];
  });
  const packages = machine.packages.map(({ name, version, node }) => [name, version, node ?? '']);
  return lines([
    '## Settings',
    `Postgres: \`${JSON.stringify(POSTGRES_SETTINGS)}\`, all else as it comes, with fsync on. ` +
      `Redis: \`${JSON.stringify(REDIS_SETTINGS)}\`.`,
    markdownTable([['key', 'what', 'settings'], ...contenders]),
    markdownTable([['package', 'version', 'wants Node'], ...packages]),
  ]);
}
