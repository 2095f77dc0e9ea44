import { expect, test } from 'vitest';
import { median, percentile, ratios, summarize } from '../../testing/statistics.ts';

test('the median is the middle value, or the mean of the two middle ones, in any order', () => {
  expect(median([9, 1, 5])).toBe(5);
  expect(median([10, 2, 4, 8])).toBe(6);
  expect(median([7])).toBe(7);
});

test('a percentile is a measured value, and the 0.99 percentile of few values is the largest', () => {
  const hundred = Array.from({ length: 100 }, (_, number) => 100 - number);
  expect(percentile(hundred, 0.5)).toBe(50);
  expect(percentile(hundred, 0.99)).toBe(99);
  expect(percentile(hundred, 1)).toBe(100);
  expect(percentile([3, 1, 2], 0.99)).toBe(3);
  expect(percentile([3, 1, 2], 0)).toBe(1);
});

test('ratios are of values of the same round, so a slow round cancels out', () => {
  expect(ratios([10, 5, 20], [20, 10, 40])).toEqual([0.5, 0.5, 0.5]);
  expect(ratios([10, 5], [20])).toEqual([0.5]);
});

test('a summary keeps every value, and requires at least one', () => {
  const values = [3, 1, 2];
  expect(summarize(values)).toEqual({ median: 2, minimum: 1, maximum: 3, values: [3, 1, 2] });
  expect(values).toEqual([3, 1, 2]);
  expect(() => summarize([])).toThrow(RangeError);
});
