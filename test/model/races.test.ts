import { expect, test } from 'vitest';
import { sequencesAsModelled, timeLimitMs, useModelDatabase } from './property.ts';

const database = useModelDatabase();

test(
  'transactions that race come to what they come to one after the other in some order',
  { timeout: timeLimitMs() },
  async () => {
    const sequences = await sequencesAsModelled(database, {
      cast: { companies: 2, runs: 12, workspaces: 1, onHosts: false },
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
  },
);
