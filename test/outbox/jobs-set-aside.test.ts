import { expect, test } from 'vitest';
import { JobsSetAside } from '../../src/outbox/jobs-set-aside.ts';

/** On a clock that the test moves. */
function setAsideAt() {
  let now = 0;
  const jobs = new JobsSetAside(() => now);
  return {
    jobs,
    at: (milliseconds: number) => {
      now = milliseconds;
      return jobs.current();
    },
  };
}

test('a job that failed is left alone for a second, and then twice as long each time, up to a minute', () => {
  const { jobs, at } = setAsideAt();
  const pauses = Array.from({ length: 9 }, () => jobs.add('1'));
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  expect(at(59_999)).toEqual({ ids: ['1'], msUntilNext: 1 });
  expect(at(60_000)).toEqual({ ids: [], msUntilNext: Number.POSITIVE_INFINITY });
});

test('jobs wait each for itself, and the first of them decides when to look again', () => {
  const { jobs, at } = setAsideAt();
  jobs.add('1');
  at(400);
  jobs.add('2');
  expect(at(700)).toEqual({ ids: ['1', '2'], msUntilNext: 300 });
  expect(at(1_000)).toEqual({ ids: ['2'], msUntilNext: 400 });
});

test('a job that is not heard of for a minute more is forgotten', () => {
  const { jobs, at } = setAsideAt();
  jobs.add('1');
  at(61_000);
  expect(jobs.add('1')).toBe(2_000);
  at(123_001);
  expect(jobs.add('1')).toBe(1_000);
});
