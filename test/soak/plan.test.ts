import { expect, test } from 'vitest';
import { payloadSchemas } from '../../src/contracts/index.ts';
import { planRuns } from '../../soak/plan.ts';

const STARTED_AT = new Date('2026-01-01T00:00:00Z');

test('the same seed plans the same runs, and another seed others', () => {
  const [first, again, other] = [7, 7, 8].map((seed) => [...planRuns(seed, 200, STARTED_AT)]);
  expect(again).toEqual(first);
  expect(other).not.toEqual(first);
  expect(new Set(first!.map(({ runId }) => runId)).size).toBe(200);
});

test('plans are made of messages that fit the contract, all kinds of copies and all ways to end', () => {
  const steps = [...planRuns(7, 1_000, STARTED_AT)].flatMap((plan) => plan.steps);
  const statuses = new Set<string>();
  for (const step of steps) {
    if (!('message' in step)) continue;
    const { queue, payload } = step.message;
    expect(payloadSchemas[queue].parse(payload)).toEqual(payload);
    if (queue === 'run-finished') statuses.add(`${payload.status} ${payload.failureReason === undefined ? '' : 'why'}`);
  }
  expect(statuses.size).toBe(8);
  expect(new Set(steps.map(({ kind }) => kind))).toEqual(
    new Set(['publish', 'publish-foreign', 'await-lease', 'pause']),
  );
});
