import { randomInt } from 'node:crypto';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseCount, parseDuration } from '../src/commands/settings.ts';
import { defaultBackend } from './stores.ts';
import type { SoakStores } from './stores.ts';

/** What is soaked, and in what. */
export interface SoakOptions {
  backend: SoakStores['backend'];
  runs: number;
  underWay: number;
  replicas: number;
  killEvery: number;
  postgresRestarts: number;
  redisRestarts: number;
  seed: number;
  timeout: number;
  json: boolean;
}

const EXIT_CODES = `
Exits with 1 when anything was lost, leaked, doubled, suppressed or unexplained, when an invariant is violated, when a job
failed with which nothing was wrong, or when the time was up before everything was at rest.`;

/** Reads the command line. */
export function readOptions(): SoakOptions {
  return new Command('soak')
    .description(
      'Publishes the lives of runs, with duplicates, reordering and runs that are abandoned, while replicas are killed ' +
        'and stores crash; waits until everything is at rest, and reads from Postgres what became of each.',
    )
    .addOption(
      new Option('--backend <backend>', 'where the queue is; Redis by default where there is a redis-server')
        .choices(['redis', 'postgres'])
        .default(defaultBackend),
    )
    .option('--runs <n>', 'runs in all', parseCount, 20_000)
    .option('--under-way <n>', 'runs that are under way at once', parseCount, 500)
    .option('--replicas <n>', 'lessor worker processes', parseCount, 3)
    .addOption(durationOption('--kill-every <time>', 'how often one of them is killed and replaced', '2s'))
    .option('--postgres-restarts <n>', 'crashes and shutdowns of Postgres, in turns', parseNumber, 3)
    .option('--redis-restarts <n>', 'kills and shutdowns of Redis, in turns; none with postgres', parseNumber, 3)
    .addOption(
      new Option('--seed <n>', 'makes the same choices as the soak that printed it')
        .argParser(parseNumber)
        .default(randomInt(2 ** 31), 'random'),
    )
    .addOption(durationOption('--timeout <time>', 'after which it is given up, with what was found by then', '30m'))
    .option('--json', 'print one JSON object on stdout, and nothing else', false)
    .addHelpText('after', EXIT_CODES)
    .parse()
    .opts<SoakOptions>();
}

function durationOption(flags: string, description: string, fallback: string): Option {
  return new Option(flags, description).argParser(parseDuration).default(parseDuration(fallback), fallback);
}

/** Reads a whole number, also zero. */
function parseNumber(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}
