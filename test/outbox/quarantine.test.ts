import { expect, test } from 'vitest';
import { OutboxQuarantine } from '../../src/outbox/relay.ts';

/** A quarantine on a manual clock. */
function quarantineAt() {
  let now = 0;
  const jobs = new OutboxQuarantine(() => now);
  return {
    jobs,
    at: (milliseconds: number) => {
      now = milliseconds;
      return jobs.current();
    },
  };
}

test('a failed job is quarantined for 1 s, then twice as long each time, up to 1 min', () => {
  const { jobs, at } = quarantineAt();
  const pauses = Array.from({ length: 9 }, () => jobs.add('1'));
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  expect(at(59_999)).toEqual({ ids: ['1'], msUntilNext: 1 });
  expect(at(60_000)).toEqual({ ids: [], msUntilNext: Number.POSITIVE_INFINITY });
});

test('jobs have a backoff of their own, and the earliest retry decides the idle time', () => {
  const { jobs, at } = quarantineAt();
  jobs.add('1');
  at(400);
  jobs.add('2');
  expect(at(700)).toEqual({ ids: ['1', '2'], msUntilNext: 300 });
  expect(at(1_000)).toEqual({ ids: ['2'], msUntilNext: 400 });
});

test('a job that has not failed again for a minute is forgotten', () => {
  const { jobs, at } = quarantineAt();
  jobs.add('1');
  at(61_000);
  expect(jobs.add('1')).toBe(2_000);
  at(123_001);
  expect(jobs.add('1')).toBe(1_000);
});
