import { expect, test } from 'vitest';
import { sequencesAsModelled, timeLimitMs, useModelDatabase } from './property.ts';

const database = useModelDatabase();

test(
  'no-leak: random sequences of driver acquisitions and cleanups behave as the model',
  { timeout: timeLimitMs() },
  async () => {
    const sequences = await sequencesAsModelled(database, {
      population: { companies: 2, runs: 16, workspaces: 2, onHosts: true },
      weights: {
        'deliver in sequence': 8,
        deliver: 20,
        race: 3,
        'race with sweep': 2,
        retry: 3,
        pass: 5,
        sweep: 2,
        acquire: 1,
        release: 1,
        'release run': 1,
        'assert current': 1,
        'write end': 1,
        poison: 1,
        'enable environments': 1,
      },
    });
    expect(sequences).toBeGreaterThan(0);
  },
);
