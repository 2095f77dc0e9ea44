import { expect, test } from 'vitest';
import { sequencesAsModelled, timeLimitMs, useModelDatabase } from './property.ts';

const database = useModelDatabase();

test(
  'any-order: random sequences of duplicate, late, early, batched and poison messages behave as the model',
  { timeout: timeLimitMs() },
  async () => {
    const sequences = await sequencesAsModelled(database, {
      population: { companies: 3, runs: 9, workspaces: 2, onHosts: false },
      weights: {
        deliver: 20,
        retry: 2,
        poison: 2,
        sweep: 3,
        pass: 4,
        'write end': 1,
        'set environment': 1,
        'make environment': 1,
        'set company': 1,
      },
    });
    expect(sequences).toBeGreaterThan(0);
  },
);
