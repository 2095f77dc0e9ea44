import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { PoisonQuarantine, PoisonPillError } from '../../src/consumers/poison-quarantine.ts';
import type { QuarantinedJob } from '../../src/consumers/poison-quarantine.ts';

/** A job that was recovered from crashed replicas; its progress is kept in the queue. */
function quarantinedJob(stalledCounter = 2) {
  const updates: object[] = [];
  const job: QuarantinedJob & { progress: unknown } = {
    stalledCounter,
    progress: 0,
    async updateProgress(progress) {
      job.progress = progress;
      updates.push(progress);
    },
  };
  return { job, updates };
}

/** A quarantine whose crash windows stay open until the test ends one. */
function newQuarantine() {
  const windows: (() => void)[] = [];
  const quarantine = new PoisonQuarantine(() => new Promise((resolve) => windows.push(resolve)));
  return { quarantine, endWindow: (index: number) => windows[index]?.() };
}

/** A replica that crashes during an attempt, which therefore never ends. */
async function crashDuringAttempt(job: QuarantinedJob): Promise<void> {
  const { quarantine } = newQuarantine();
  void quarantine.runIsolated(job, () => new Promise<never>(() => undefined));
  await setImmediate();
}

describe('isolated: a job recovered from crashed replicas', () => {
  test('is quarantined from the second recovery on', () => {
    const { quarantine } = newQuarantine();
    expect([0, 1, 2, 3].map((recoveries) => quarantine.isQuarantined(quarantinedJob(recoveries).job))).toEqual([
      false,
      false,
      true,
      true,
    ]);
  });

  test('counts a crash before an isolated attempt, and resets the count when the attempt ends', async () => {
    const { quarantine } = newQuarantine();
    const { job, updates } = quarantinedJob();
    const result = await quarantine.runIsolated(job, async () => {
      expect(updates).toEqual([{ isolatedCrashes: 1 }]);
      return 'done';
    });
    expect(result).toBe('done');
    expect(updates).toEqual([{ isolatedCrashes: 1 }, { isolatedCrashes: 0 }]);
  });

  test('resets the count when the attempt fails: only a crash counts', async () => {
    const { quarantine } = newQuarantine();
    const { job } = quarantinedJob();
    for (let attempt = 0; attempt < 10; attempt += 1) {
      await expect(quarantine.runIsolated(job, () => Promise.reject(new Error('deadlock')))).rejects.toThrow(
        'deadlock',
      );
    }
    expect(await quarantine.runIsolated(job, async () => 'done')).toBe('done');
  });

  test('fails as a poison pill after three crashes, without another attempt', async () => {
    const { job } = quarantinedJob();
    for (let crash = 0; crash < 3; crash += 1) await crashDuringAttempt(job);
    const { quarantine } = newQuarantine();
    const attempt = quarantine.runIsolated(job, () => Promise.reject(new Error('it was attempted')));
    await expect(attempt).rejects.toBeInstanceOf(PoisonPillError);
    await expect(attempt).rejects.toThrow(
      /^poison pill: 3 replicas in a row crashed during an isolated attempt at this job/,
    );
  });

  test('has three isolated attempts again when an operator retries it', async () => {
    const { job } = quarantinedJob();
    for (let crash = 0; crash < 3; crash += 1) await crashDuringAttempt(job);
    const { quarantine } = newQuarantine();
    await expect(quarantine.runIsolated(job, async () => 'done')).rejects.toThrow('poison pill');
    expect(await quarantine.runIsolated(job, async () => 'done')).toBe('done');
  });

  test('is cleared once its attempt outlives the crash window', async () => {
    const { job, updates } = quarantinedJob();
    const { quarantine, endWindow } = newQuarantine();
    void quarantine.runIsolated(job, () => new Promise<never>(() => undefined));
    await setImmediate();
    expect(updates).toEqual([{ isolatedCrashes: 1 }]);
    for (const index of [0, 1]) endWindow(index);
    await setImmediate();
    expect(updates).toEqual([{ isolatedCrashes: 1 }, { isolatedCrashes: 0 }]);
  });

  test('a completed attempt clears the crashes before it', async () => {
    const { job } = quarantinedJob();
    for (let crash = 0; crash < 2; crash += 1) await crashDuringAttempt(job);
    const { quarantine } = newQuarantine();
    await quarantine.runIsolated(job, async () => 'done');
    await crashDuringAttempt(job);
    expect(await quarantine.runIsolated(job, async () => 'done')).toBe('done');
  });
});

describe('isolated: quarantined jobs', () => {
  test('are attempted one at a time, in order of arrival, even when one fails', async () => {
    const { quarantine } = newQuarantine();
    const begun: number[] = [];
    const endings: (() => void)[] = [];
    const attempts = [0, 1, 2].map((number) =>
      quarantine.runIsolated(quarantinedJob().job, () => {
        begun.push(number);
        return new Promise<void>((resolve, reject) => {
          endings.push(number === 0 ? () => reject(new Error('rejected')) : resolve);
        });
      }),
    );
    const outcomes = Promise.allSettled(attempts);
    for (let number = 0; number < 3; number += 1) {
      await setImmediate();
      expect(begun).toEqual([0, 1, 2].slice(0, number + 1));
      endings[number]!();
    }
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
  });

  test('start while an earlier one is still running past its crash window', async () => {
    const { quarantine, endWindow } = newQuarantine();
    const slow = quarantine.runIsolated(quarantinedJob().job, () => new Promise<never>(() => undefined));
    const next = quarantine.runIsolated(quarantinedJob().job, async () => 'done');
    await setImmediate();
    for (const index of [0, 1]) endWindow(index);
    expect(await Promise.race([next, slow])).toBe('done');
  });
});
