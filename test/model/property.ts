import fc from 'fast-check';
import type { TestDatabase } from '../support/database.ts';
import { Sequence } from './sequence.ts';
import { anyStep } from './steps.ts';
import type { Cast, Weights } from './steps.ts';

/** What the sequences of a test are about. */
export interface Focus {
  cast: Cast;
  weights: Weights;
}

/** How many sequences a test runs, unless MODEL_RUNS says otherwise, and the longest of them. */
const SEQUENCES = 110;
const LONGEST_SEQUENCE = 60;

const SECONDS_A_SEQUENCE = 1;
const MINIMUM_SECONDS = 120;

const numberFrom = (name: string): number | undefined => {
  const value = process.env[name];
  return value === undefined ? undefined : Number(value);
};

const sequences = () => numberFrom('MODEL_RUNS') ?? SEQUENCES;

/** How long a test of sequences may take, shrinking a failure included. */
export const timeLimitMs = () => Math.max(MINIMUM_SECONDS, sequences() * SECONDS_A_SEQUENCE) * 1_000;

/** Takes random sequences of steps on both sides. Reports the shortest that fails, and how to see it fail again. */
export async function assertSameAsModel(database: TestDatabase, { cast, weights }: Focus): Promise<void> {
  const steps = fc.array(anyStep(cast, weights), { minLength: 1, maxLength: LONGEST_SEQUENCE, size: 'max' });
  const property = fc.asyncProperty(steps, (sequence) => new Sequence(database, cast).run(sequence));
  const [seed, path] = [numberFrom('MODEL_SEED'), process.env['MODEL_PATH']];
  await fc.assert(property, {
    numRuns: sequences(),
    ...(seed === undefined ? {} : { seed }),
    ...(path === undefined ? {} : { path }),
    asyncReporter: async (run) => {
      if (!run.failed) return;
      throw new Error(
        `MODEL_SEED=${run.seed} MODEL_PATH=${run.counterexamplePath} shows it again\n${await fc.asyncDefaultReportMessage(run)}`,
      );
    },
  });
}
