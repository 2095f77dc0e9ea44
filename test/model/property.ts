import { array, asyncDefaultReportMessage, asyncProperty, check, interruptAfterTimeLimit, oneof } from 'fast-check';
import { beforeAll } from 'vitest';
import { useDatabase } from '../support/database.ts';
import type { TestDatabase } from '../support/database.ts';
import { Sequence } from './sequence.ts';
import type { Cast } from './posted.ts';
import { anyStep } from './steps.ts';
import type { Weights } from './steps.ts';

/** A database of the test file's own, which is not crashed: it need not wait for the disk. */
export function useModelDatabase(): TestDatabase {
  const database = useDatabase({ maximumConnections: 4 });
  beforeAll(async () => {
    const name = new URL(database.url).pathname.slice(1);
    await database.sql`alter database ${database.sql(name)} set synchronous_commit to off`;
  });
  return database;
}

/** What the sequences of a test are about. */
export interface Focus {
  cast: Cast;
  weights: Weights;
}

/** How many sequences a test runs, unless MODEL_RUNS says otherwise, and the longest of them. */
const SEQUENCES = 25;
const LONGEST_SEQUENCE = 60;
/** Half of them are no longer than this: they find most, and quickly. */
const SHORT_SEQUENCE = 20;

const SECONDS_A_SEQUENCE = 1;
const MINIMUM_SECONDS = 300;
/** Kept of the time limit, so that a failure which is being shrunk is still reported. */
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
 * Takes random sequences of steps on both sides, and returns how many there were. Throws the shortest that fails, with
 * how to see it fail again.
 */
export async function sequencesAsModelled(database: TestDatabase, { cast, weights }: Focus): Promise<number> {
  const upTo = (maxLength: number) => array(anyStep(cast, weights), { minLength: 1, maxLength, size: 'max' });
  const steps = oneof(upTo(SHORT_SEQUENCE), upTo(LONGEST_SEQUENCE));
  const property = asyncProperty(steps, (sequence) => new Sequence(database, cast).run(sequence));
  const [seed, path] = [numberFrom('MODEL_SEED'), process.env['MODEL_PATH']];
  const run = await check(property, {
    numRuns: sequences(),
    plugins: [interruptAfterTimeLimit(timeLimitMs() - REPORT_MS, { failOnInterrupt: true })],
    ...(seed === undefined ? {} : { seed }),
    ...(path === undefined ? {} : { path }),
  });
  if (!run.failed) return run.numRuns;
  const report = (await asyncDefaultReportMessage(run)) ?? 'it was interrupted';
  const replay = `MODEL_SEED=${run.seed} MODEL_PATH=${run.counterexamplePath} shows it again`;
  throw new Error(run.counterexample === null ? report : `${replay}\n${report}`, { cause: run.errorInstance });
}
