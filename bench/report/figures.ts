import { CONTENDER_NAMES } from '../contenders/index.ts';
import type { ContenderName } from '../contenders/index.ts';
import type { BenchResults } from '../results.ts';
import type { Throughput } from '../sections/throughput.ts';
import { median, ratios, summarize } from '../../testing/statistics.ts';
import type { Summary } from '../../testing/statistics.ts';

/** Ratios of Lessor's rate to another's, each of the same round. */
export type RatioName = 'noop' | 'perJob' | 'graphileWorker' | 'pgBoss' | 'groupmq';

const COMPARED: Readonly<Record<RatioName, ContenderName>> = {
  noop: 'noop',
  perJob: 'perJobTransaction',
  graphileWorker: 'graphileWorker',
  pgBoss: 'pgBoss',
  groupmq: 'groupmq',
};

/** The rates of a contender, round by round; empty when it was not measured. */
export function ratesOf(throughput: Throughput, name: ContenderName): number[] {
  return throughput[name]?.map(({ rate }) => rate) ?? [];
}

/** The rates of the measured contenders. */
export function summariesOf(throughput: Throughput): Map<ContenderName, Summary> {
  const measured = CONTENDER_NAMES.map((name) => [name, ratesOf(throughput, name)] as const);
  return new Map(measured.filter(([, rates]) => rates.length > 0).map(([name, rates]) => [name, summarize(rates)]));
}

export function ratioOf({ throughput: { many } }: BenchResults, name: RatioName): Summary | undefined {
  return quotient(ratesOf(many, 'lessor'), ratesOf(many, COMPARED[name]));
}

/** The rate with one company, and its ratio to the rate with many. */
export function oneCompanyOf(
  { throughput: { many, one } }: BenchResults,
  name: 'lessor' | 'lessorPostgres',
): { rate: number; ratio: number | undefined } | undefined {
  const rates = ratesOf(one, name);
  if (rates.length === 0) return undefined;
  return { rate: median(rates), ratio: quotient(rates, ratesOf(many, name))?.median };
}

function quotient(rates: readonly number[], others: readonly number[]): Summary | undefined {
  const quotients = ratios(rates, others);
  return quotients.length === 0 ? undefined : summarize(quotients);
}
