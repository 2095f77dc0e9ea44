import { expect, test } from 'vitest';
import { untilDrained } from '../../bench/until-drained.ts';

test('it resolves when nothing is left, and asks more often the nearer that is', async () => {
  const startedAt = performance.now();
  const asked: number[] = [];
  const doneAfterMs = 200;
  await untilDrained(async () => {
    const elapsed = performance.now() - startedAt;
    asked.push(elapsed);
    return Math.max(0, Math.ceil(1_000 * (1 - elapsed / doneAfterMs)));
  });
  expect(asked.at(-1)).toBeGreaterThanOrEqual(doneAfterMs);
  const middle = asked.findIndex((at) => at > doneAfterMs / 2);
  expect(asked.length - middle).toBeGreaterThan(middle / 2);
});

test('what fails to be counted fails the wait', async () => {
  await expect(untilDrained(() => Promise.reject(new Error('gone')))).rejects.toThrow('gone');
});
