import { expect, test } from 'vitest';
import { sequencesAsModelled, timeLimitMs, useModelDatabase } from './property.ts';

const database = useModelDatabase();

test('concurrent transactions behave as in some serial order of the model', { timeout: timeLimitMs() }, async () => {
  const sequences = await sequencesAsModelled(database, {
    population: { companies: 2, runs: 12, workspaces: 1, onHosts: false },
    weights: {
      race: 8,
      'race with sweep': 4,
      deliver: 3,
      retry: 2,
      pass: 4,
      'make environment': 1,
      'write end': 3,
    },
  });
  expect(sequences).toBeGreaterThan(0);
});
