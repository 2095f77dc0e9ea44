import { randomInt } from 'node:crypto';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseCount, parseDuration } from '../src/commands/arguments.ts';
import type { QueueBackend } from '../testing/stores/open-stores.ts';
import { whyNoRedisServer } from '../testing/stores/redis-server.ts';

/** The load, the faults, and the stores of a soak. */
export interface SoakOptions {
  backend: QueueBackend;
  runs: number;
  inFlight: number;
  replicas: number;
  killEvery: number;
  postgresRestarts: number;
  redisRestarts: number;
  lockHolders: number;
  seed: number;
  timeout: number;
  json: boolean;
}

const EXIT_CODES = `
Exits with 1 when anything was lost, leaked, duplicated, unrecorded or unexplained, when an invariant is violated, when a
sound job failed, or when the time limit passed before the system was quiescent.`;

/** Reads the command line. */
export function readOptions(): SoakOptions {
  return new Command('soak')
    .description(
      'Publishes the messages of runs, with duplicates, reordering and abandoned runs, while replicas are killed, ' +
        'stores crash and rows are locked; waits until the system is quiescent, and audits each run in Postgres.',
    )
    .addOption(
      new Option('--backend <backend>', 'where the queue is; by default Redis, where a server is on the PATH')
        .choices(['redis', 'postgres'])
        .default(whyNoRedisServer === undefined ? 'redis' : 'postgres'),
    )
    .option('--runs <n>', 'runs in all', parseCount, 20_000)
    .option('--in-flight <n>', 'runs in flight', parseCount, 500)
    .option('--replicas <n>', 'lessor worker processes', parseCount, 3)
    .addOption(durationOption('--kill-every <time>', 'how often one of them is killed and replaced', '2s'))
    .option('--postgres-restarts <n>', 'crashes and shutdowns of Postgres, alternating', parseNumber, 3)
    .option('--redis-restarts <n>', 'kills and shutdowns of Redis, alternating; none with postgres', parseNumber, 3)
    .option('--lock-holders <n>', 'sessions that lock a random company, run or lease for 5 to 30 s', parseNumber, 1)
    .addOption(
      new Option('--seed <n>', 'repeats the choices of the soak that printed it')
        .argParser(parseNumber)
        .default(randomInt(2 ** 31), 'random'),
    )
    .addOption(durationOption('--timeout <time>', 'after which the soak stops and audits what is there', '30m'))
    .option('--json', 'print one JSON object on stdout, and nothing else', false)
    .addHelpText('after', EXIT_CODES)
    .parse()
    .opts<SoakOptions>();
}

function durationOption(flags: string, description: string, fallback: string): Option {
  return new Option(flags, description).argParser(parseDuration).default(parseDuration(fallback), fallback);
}

/** Reads a whole number, zero included. */
function parseNumber(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}
