import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { PoisonIsolation, PoisonousJobError } from '../../src/consumers/poison-isolation.ts';
import type { SuspectJob } from '../../src/consumers/poison-isolation.ts';

/** A job as BullMQ gives it to one replica after the other: its progress outlives them. */
function suspectJob(stalledCounter = 2) {
  const noted: object[] = [];
  const job: SuspectJob & { progress: unknown } = {
    id: 'suspect',
    stalledCounter,
    progress: 0,
    async updateProgress(progress) {
      job.progress = progress;
      noted.push(progress);
    },
  };
  return { job, noted };
}

/** Isolation whose turns end only with their attempts, unless the test ends one. */
function isolationWithTurns() {
  const turns: (() => void)[] = [];
  const isolation = new PoisonIsolation(() => new Promise((resolve) => turns.push(resolve)));
  return { isolation, endTurn: (turn: number) => turns[turn]?.() };
}

/** A replica that dies at work on the job: its attempt never comes to an end. */
async function dieAtWork(job: SuspectJob): Promise<void> {
  const { isolation } = isolationWithTurns();
  void isolation.tryAlone(job, () => new Promise<never>(() => undefined));
  await setImmediate();
}

describe('isolated: a job that was left behind by replicas that died', () => {
  test('is suspect the second time, as the first one was most likely killed', () => {
    const { isolation } = isolationWithTurns();
    expect([0, 1, 2, 3].map((takeovers) => isolation.isSuspect(suspectJob(takeovers).job))).toEqual([
      false,
      false,
      true,
      true,
    ]);
  });

  test('is noted before it is tried, and cleared once it has come through', async () => {
    const { isolation } = isolationWithTurns();
    const { job, noted } = suspectJob();
    const result = await isolation.tryAlone(job, async () => {
      expect(noted).toEqual([{ triedAlone: 1 }]);
      return 'done';
    });
    expect(result).toBe('done');
    expect(noted).toEqual([{ triedAlone: 1 }, { triedAlone: 0 }]);
  });

  test('is cleared by an error too: only a crash counts', async () => {
    const { isolation } = isolationWithTurns();
    const { job } = suspectJob();
    for (let attempt = 0; attempt < 10; attempt += 1) {
      await expect(isolation.tryAlone(job, () => Promise.reject(new Error('deadlock')))).rejects.toThrow('deadlock');
    }
    expect(await isolation.tryAlone(job, async () => 'done')).toBe('done');
  });

  test('is failed with its reason after three replicas have died of it, and not tried again', async () => {
    const { job } = suspectJob();
    for (let crash = 0; crash < 3; crash += 1) await dieAtWork(job);
    const { isolation } = isolationWithTurns();
    const attempt = isolation.tryAlone(job, () => Promise.reject(new Error('it was tried')));
    await expect(attempt).rejects.toBeInstanceOf(PoisonousJobError);
    await expect(attempt).rejects.toThrow(/^poisonous: 3 replicas in a row died at work on this job/);
  });

  test('has as many tries again when an operator retries it', async () => {
    const { job } = suspectJob();
    for (let crash = 0; crash < 3; crash += 1) await dieAtWork(job);
    const { isolation } = isolationWithTurns();
    await expect(isolation.tryAlone(job, async () => 'done')).rejects.toThrow('poisonous');
    expect(await isolation.tryAlone(job, async () => 'done')).toBe('done');
  });

  test('is not blamed for the death of a replica that it has not killed at once', async () => {
    const { job, noted } = suspectJob();
    const { isolation, endTurn } = isolationWithTurns();
    void isolation.tryAlone(job, () => new Promise<never>(() => undefined));
    await setImmediate();
    expect(noted).toEqual([{ triedAlone: 1 }]);
    for (const turn of [0, 1]) endTurn(turn);
    await setImmediate();
    expect(noted).toEqual([{ triedAlone: 1 }, { triedAlone: 0 }]);
  });

  test('the two deaths before do not blame it once it has come through', async () => {
    const { job } = suspectJob();
    for (let crash = 0; crash < 2; crash += 1) await dieAtWork(job);
    const { isolation } = isolationWithTurns();
    await isolation.tryAlone(job, async () => 'done');
    await dieAtWork(job);
    expect(await isolation.tryAlone(job, async () => 'done')).toBe('done');
  });
});

describe('isolated: several suspects', () => {
  test('are tried one after the other, in the order they came, whatever becomes of each', async () => {
    const { isolation } = isolationWithTurns();
    const begun: number[] = [];
    const endings: (() => void)[] = [];
    const attempts = [0, 1, 2].map((number) =>
      isolation.tryAlone(suspectJob().job, () => {
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

  test('one that takes long does not hold up the next', async () => {
    const { isolation, endTurn } = isolationWithTurns();
    const slow = isolation.tryAlone(suspectJob().job, () => new Promise<never>(() => undefined));
    const next = isolation.tryAlone(suspectJob().job, async () => 'done');
    await setImmediate();
    for (const turn of [0, 1]) endTurn(turn);
    expect(await Promise.race([next, slow])).toBe('done');
  });
});
