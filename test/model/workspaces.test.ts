import { expect, test } from 'vitest';
import { sequencesAsModelled, timeLimitMs, useModelDatabase } from './property.ts';

const database = useModelDatabase();

test(
  'single-flight: runs that hold, await, lose and regain one workspace behave as the model',
  { timeout: timeLimitMs() },
  async () => {
    const sequences = await sequencesAsModelled(database, {
      population: { companies: 2, runs: 8, workspaces: 1, onHosts: false },
      weights: {
        deliver: 14,
        retry: 8,
        pass: 5,
        sweep: 2,
        acquire: 3,
        release: 2,
        'release run': 1,
        'assert current': 1,
        'write end': 3,
        'make environment': 1,
        'set environment': 1,
      },
    });
    expect(sequences).toBeGreaterThan(0);
  },
);
