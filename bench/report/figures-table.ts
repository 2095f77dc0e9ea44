import Table from 'cli-table3';
import { CONTENDERS } from '../contenders/index.ts';
import type { BenchResults } from '../results.ts';
import { summariesOf } from './figures.ts';
import { count } from './markdown-text.ts';
import { targetsOf } from './targets.ts';

const PLAIN = { head: [], border: [], compact: true };

/** The figures as tables for a terminal. */
export function printFigures(results: BenchResults): string {
  const rates = new Table({ head: ['', 'jobs/s (median)', 'spread'], style: PLAIN });
  for (const [name, { median, minimum, maximum }] of summariesOf(results.throughput.many)) {
    rates.push([CONTENDERS[name].title, count(median), `${count(minimum)} to ${count(maximum)}`]);
  }
  const targets = new Table({ head: ['', 'bar', 'measured', 'holds'], style: PLAIN });
  for (const { what, bar, measured, holds } of targetsOf(results)) {
    if (measured !== undefined) targets.push([what, bar, measured, holds ? 'yes' : 'no']);
  }
  const { audits, violations, failures } = results;
  return [
    ...[rates, targets].filter((table) => table.length > 0).map((table) => table.toString()),
    ...violations.map((violation) => `✖ ${violation}`),
    ...failures.map((failure) => `✖ failed: ${failure}`),
    `${audits} measurements audited, ${violations.length} violations, ${results.seconds} seconds`,
    '',
  ].join('\n');
}
