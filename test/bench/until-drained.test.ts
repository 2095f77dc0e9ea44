import { expect, test } from 'vitest';
import { untilDrained } from '../../bench/until-drained.ts';

test('untilDrained resolves when nothing is left, and polls more often towards the end', async () => {
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

test('untilDrained rejects when counting fails', async () => {
  await expect(untilDrained(() => Promise.reject(new Error('unreachable')))).rejects.toThrow('unreachable');
});
