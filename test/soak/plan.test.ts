import { expect, test } from 'vitest';
import { payloadSchemas } from '../../src/contracts/index.ts';
import { planRuns } from '../../soak/plan.ts';
import { publishedPlans } from '../../soak/workload.ts';

const STARTED_AT = new Date('2026-01-01T00:00:00Z');

test('the soak plans the same runs for the same seed, and others for another seed', () => {
  const [first, again, other] = [7, 7, 8].map((seed) => [...planRuns(seed, 200, STARTED_AT)]);
  expect(again).toEqual(first);
  expect(other).not.toEqual(first);
  expect(new Set(first!.map(({ runId }) => runId)).size).toBe(200);
});

test('the soak plans valid messages, all kinds of copies and all kinds of ends', () => {
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

test('of a workload that was stopped, the runs whose messages were all published are audited, and no others', () => {
  const plans = [...planRuns(7, 10, STARTED_AT)];
  const workload = { published: 3, unfinished: new Set([plans[1]!.runId]) };
  expect([...publishedPlans(plans, workload)]).toEqual([plans[0], plans[2], plans[3]]);
});
