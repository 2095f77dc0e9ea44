import { test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { assertSameAsModel, timeLimitMs } from './property.ts';

const database = useDatabase({ maximumConnections: 4 });

test(
  'any-order: whatever is delivered, twice, late, early or in batches, comes to what the model says',
  async () => {
    await assertSameAsModel(database, {
      cast: { companies: 2, runs: 6, workspaces: 2 },
      weights: {
        deliver: 20,
        retry: 2,
        poison: 2,
        sweep: 3,
        pass: 3,
        'write end': 1,
        'set environment': 1,
        'set company': 1,
      },
    });
  },
  timeLimitMs(),
);
