import { array, asyncDefaultReportMessage, asyncProperty, check, interruptAfterTimeLimit, oneof } from 'fast-check';
import { beforeAll } from 'vitest';
import { useDatabase } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { Sequence } from './sequence.ts';
import type { Population } from './planned-messages.ts';
import { anyStep } from './steps.ts';
import type { Weights } from './steps.ts';

/** A database of the test file's own. It is never crashed, so commits need not wait for the disk. */
export function useModelDatabase(): TestDatabase {
  const database = useDatabase({ maximumConnections: 4 });
  beforeAll(async () => {
    const name = new URL(database.url).pathname.slice(1);
    await database.sql`alter database ${database.sql(name)} set synchronous_commit to off`;
  });
  return database;
}

/** The population and the steps of the sequences of a test. */
export interface Focus {
  population: Population;
  weights: Weights;
}

/** How many sequences a test runs, unless MODEL_RUNS is set, and the length of the longest. */
const SEQUENCES = 25;
const LONGEST_SEQUENCE = 60;
/** Half of them are at most this long: they find most faults, and quickly. */
const SHORT_SEQUENCE = 20;

const SECONDS_A_SEQUENCE = 1;
const MINIMUM_SECONDS = 300;
/** The part of the time limit that is reserved to report a failure that is being shrunk. */
const REPORT_MS = 10_000;

function numberFrom(name: string): number | undefined {
  const value = process.env[name];
  if (value === undefined) return undefined;
  if (!/^-?\d+$/.test(value)) throw new Error(`${name} is ${value}, and must be a whole number`);
  return Number(value);
}

const sequences = () => numberFrom('MODEL_RUNS') ?? SEQUENCES;

/** How long a test of sequences may take, shrinking a failure included. */
export const timeLimitMs = () => Math.max(MINIMUM_SECONDS, sequences() * SECONDS_A_SEQUENCE) * 1_000;

/**
 * Runs random sequences of steps on both sides, and returns their number. Throws the shortest failing sequence, with the
 * settings that replay it.
 */
export async function sequencesAsModelled(database: TestDatabase, { population, weights }: Focus): Promise<number> {
  const upTo = (maxLength: number) => array(anyStep(population, weights), { minLength: 1, maxLength, size: 'max' });
  const steps = oneof(upTo(SHORT_SEQUENCE), upTo(LONGEST_SEQUENCE));
  const property = asyncProperty(steps, (sequence) => new Sequence(database, population).run(sequence));
  const [seed, path] = [numberFrom('MODEL_SEED'), process.env['MODEL_PATH']];
  const run = await check(property, {
    numRuns: sequences(),
    plugins: [interruptAfterTimeLimit(timeLimitMs() - REPORT_MS, { failOnInterrupt: true })],
    ...(seed === undefined ? {} : { seed }),
    ...(path === undefined ? {} : { path }),
  });
  if (!run.failed) return run.numRuns;
  const report = (await asyncDefaultReportMessage(run)) ?? 'it was interrupted';
  const replay = `MODEL_SEED=${run.seed} MODEL_PATH=${run.counterexamplePath} replays it`;
  throw new Error(run.counterexample === null ? report : `${replay}\n${report}`, { cause: run.errorInstance });
}
