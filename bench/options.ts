import { Command, InvalidArgumentError } from 'commander';
import { parseCount } from '../src/commands/arguments.ts';
import { CONTENDER_NAMES } from './contenders/index.ts';
import type { ContenderName } from './contenders/index.ts';
import { QUICK_RESULTS, RESULTS } from './paths.ts';
import { FULL, QUICK } from './scale.ts';
import type { Scale } from './scale.ts';

/** What is measured besides the contenders. */
const SECTION_NAMES = ['oneCompany', 'latency', 'fairness', 'growth', 'replicas', 'memory', 'start'] as const;
export type SectionName = (typeof SECTION_NAMES)[number];

type PartName = ContenderName | SectionName;
const PART_NAMES: readonly PartName[] = [...CONTENDER_NAMES, ...SECTION_NAMES];

/** What to measure, how much of it, and where to write the report. */
export interface BenchOptions {
  contenders: ContenderName[];
  sections: ReadonlySet<SectionName>;
  scale: Scale;
  quick: boolean;
  json: boolean;
  output: string;
}

interface Flags {
  quick: boolean;
  json: boolean;
  rounds?: number;
  only?: PartName[];
  output?: string;
}

/** Reads the command line. */
export function readOptions(): BenchOptions {
  const flags = new Command('bench')
    .description('Measures Lessor beside its limits and its peers, in one run on one machine.')
    .option('--quick', 'everything in under a minute, to check that it runs and that every row is right', false)
    .option('--json', 'print one JSON object on stdout', false)
    .option('--rounds <n>', 'interleaved rounds; 5 by default, one with --quick', parseCount)
    .option('--only <parts>', `some of: ${PART_NAMES.join(', ')}`, parseParts)
    .option('--output <folder>', 'folder of the report; a full one is kept in bench/results by default')
    .addHelpText('after', '\nExits with 1 when a measurement failed or the audit found a violation.')
    .parse()
    .opts<Flags>();
  const { quick, json, only = PART_NAMES } = flags;
  const scale = quick ? QUICK : FULL;
  return {
    contenders: CONTENDER_NAMES.filter((name) => only.includes(name)),
    sections: new Set(SECTION_NAMES.filter((name) => only.includes(name))),
    scale: { ...scale, rounds: flags.rounds ?? scale.rounds },
    quick,
    json,
    output: flags.output ?? (quick || flags.only !== undefined ? QUICK_RESULTS : RESULTS),
  };
}

function parseParts(text: string): PartName[] {
  return text.split(',').map((given) => {
    const found = PART_NAMES.find((name) => name === given.trim());
    if (found === undefined) throw new InvalidArgumentError(`It must name some of ${PART_NAMES.join(', ')}.`);
    return found;
  });
}
