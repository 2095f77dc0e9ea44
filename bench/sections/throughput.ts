import type { BenchContext } from '../context.ts';
import type { ContenderName } from '../contenders/index.ts';
import { measureContender } from '../measure-contender.ts';
import type { Measurement } from '../measure-contender.ts';

/** Measurements, round by round, of each contender that could be measured. */
export type Throughput = Partial<Record<ContenderName, Measurement[]>>;

/** The results of all contenders. */
export interface ThroughputResults {
  /** With many companies. */
  many: Throughput;
  /** With one company. */
  one: Throughput;
}

/** One measurement per round. */
interface Entry {
  results: Throughput;
  name: ContenderName;
  companies: number;
}

/**
 * Measures every contender once per round, so that other load on the machine affects all alike. A contender that fails is
 * not measured again.
 */
export async function measureThroughput(
  context: BenchContext,
  names: readonly ContenderName[],
  withOneCompany: readonly ContenderName[],
): Promise<ThroughputResults> {
  const { companies, pairs, rounds, warmUpPairs } = context.scale;
  const found: ThroughputResults = { many: {}, one: {} };
  const entries: Entry[] = [
    ...names.map((name) => ({ results: found.many, name, companies })),
    ...withOneCompany.map((name) => ({ results: found.one, name, companies: 1 })),
  ];
  const failed = new Set<Entry>();
  const measure = async (entry: Entry, when: string, count: number): Promise<Measurement | undefined> => {
    context.describe(
      `${when}: ${entry.name}, ${entry.companies === 1 ? 'one company' : `${entry.companies} companies`}`,
    );
    try {
      return await measureContender(context, entry.name, { pairs: count, companies: entry.companies });
    } catch (error) {
      context.recordFailure(entry.name, error);
      failed.add(entry);
      delete entry.results[entry.name];
      return undefined;
    }
  };
  if (warmUpPairs > 0) {
    const first = entries.filter(
      (entry, position) => position === entries.findIndex(({ name }) => name === entry.name),
    );
    for (const entry of first) await measure(entry, 'warming up', Math.min(warmUpPairs, pairs[entry.name]));
  }
  for (let round = 1; round <= rounds; round += 1) {
    for (const entry of entries.filter((each) => !failed.has(each))) {
      const measurement = await measure(entry, `round ${round}/${rounds}`, pairs[entry.name]);
      if (measurement !== undefined) (entry.results[entry.name] ??= []).push(measurement);
    }
  }
  return found;
}
