import { setImmediate, setTimeout } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { GroupCommit } from '../../src/consumers/group-commit.ts';
import type { GroupCommitOptions } from '../../src/consumers/group-commit.ts';

type Options = GroupCommitOptions<string, string>;

const resultOf = (item: string) => `result of ${item}`;

/** The letter an item starts with. */
const keyOf = (item: string) => item.slice(0, 1);

const identity = (item: string) => item;

/** A group commit whose batches are committed when the test says so. */
function controlled(options: Partial<Options> = {}) {
  const started: { items: readonly string[]; succeed: () => void; fail: (error: Error) => void }[] = [];
  const commit: Options['commit'] = (items) =>
    new Promise((resolve, reject) => {
      started.push({ items, succeed: () => resolve(items.map(resultOf)), fail: reject });
    });
  const groupCommit = new GroupCommit<string, string>({
    commit,
    keyOf,
    subjectOf: identity,
    maxBatchSize: 100,
    maxBatchesInFlight: 2,
    slowBatchThresholdMs: 60_000,
    ...options,
  });
  const results: Promise<string>[] = [];
  return {
    /** Of all that was submitted, in that order. */
    results,
    batches: () => started.map(({ items }) => items),
    /** Submits, and lets everything happen that needs nothing to be committed. */
    submit: async (...items: string[]) => {
      results.push(...items.map((item) => groupCommit.submit(item)));
      await setImmediate();
    },
    succeed: async (batch: number) => {
      started[batch]!.succeed();
      await setImmediate();
    },
    fail: async (batch: number, error: Error) => {
      started[batch]!.fail(error);
      await setImmediate();
    },
  };
}

describe('grouping', () => {
  test('an item that finds no batch in flight is committed immediately, alone', async () => {
    const { submit, batches, succeed, results } = controlled();
    await submit('a1');
    expect(batches()).toEqual([['a1']]);
    await succeed(0);
    expect(await results[0]).toBe(resultOf('a1'));
  });

  test('what is submitted in one turn is committed in one batch', async () => {
    const { submit, batches } = controlled();
    await submit('a1', 'b1', 'c1');
    expect(batches()).toEqual([['a1', 'b1', 'c1']]);
  });

  test('what is submitted while a batch is in flight makes up the next one', async () => {
    const { submit, batches, succeed } = controlled();
    await submit('a1');
    await submit('b1');
    await submit('c1', 'd1');
    expect(batches()).toEqual([['a1']]);
    await succeed(0);
    expect(batches()).toEqual([['a1'], ['b1', 'c1', 'd1']]);
  });

  test('every item gets its own result', async () => {
    const { submit, succeed, results } = controlled();
    const items = ['a1', 'b1', 'a2', 'c1'];
    await submit(...items);
    await succeed(0);
    expect(await Promise.all(results)).toEqual(items.map(resultOf));
  });

  test('the longest-waiting items go first', async () => {
    const { submit, batches, succeed } = controlled({ maxBatchSize: 2 });
    await submit('a1');
    await submit('b1');
    await submit('c1');
    await submit('d1');
    await succeed(0);
    await succeed(1);
    expect(batches()).toEqual([['a1'], ['b1', 'c1'], ['d1']]);
  });
});

describe('limits', () => {
  test('a batch is never larger than its maximum', async () => {
    const { submit, batches, succeed } = controlled({ maxBatchSize: 2 });
    await submit('a1', 'b1', 'c1', 'd1', 'e1');
    await succeed(0);
    await succeed(1);
    await succeed(2);
    expect(batches()).toEqual([['a1', 'b1'], ['c1', 'd1'], ['e1']]);
  });

  test('a batch slower than the threshold no longer blocks the next one', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { submit, batches, succeed } = controlled({ slowBatchThresholdMs: 5 });
    await submit('a1', 'b1');
    await submit('c1');
    vi.advanceTimersByTime(4);
    expect(batches()).toEqual([['a1', 'b1']]);
    vi.advanceTimersByTime(1);
    expect(batches()).toEqual([['a1', 'b1'], ['c1']]);
    await submit('d1');
    await succeed(1);
    expect(batches()).toEqual([['a1', 'b1'], ['c1'], ['d1']]);
  });

  test('no more batches are in flight than allowed', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { submit, batches, succeed } = controlled({
      maxBatchSize: 1,
      maxBatchesInFlight: 2,
      slowBatchThresholdMs: 5,
    });
    await submit('a1', 'b1', 'c1');
    vi.advanceTimersByTime(5);
    vi.advanceTimersByTime(5);
    expect(batches()).toEqual([['a1'], ['b1']]);
    await succeed(0);
    expect(batches()).toEqual([['a1'], ['b1'], ['c1']]);
  });

  test('items of one key are never in flight in two batches, and do not hold up other keys', async () => {
    const { submit, batches, succeed } = controlled({ slowBatchThresholdMs: 1 });
    await submit('a1');
    await submit('a2', 'b1');
    await expect.poll(batches).toEqual([['a1'], ['b1']]);
    await succeed(0);
    await expect.poll(batches).toEqual([['a1'], ['b1'], ['a2']]);
  });

  test('batches are no more and no larger than allowed, and share no key, for any order of arrival and of completion', async () => {
    const limits = { maxBatchSize: 7, maxBatchesInFlight: 3, slowBatchThresholdMs: 1 };
    const inFlight = new Set<readonly string[]>();
    const broken: string[] = [];
    const commit = async (items: readonly string[]) => {
      const keys = new Set(items.map(keyOf));
      if ([...inFlight].some((batch) => batch.some((item) => keys.has(keyOf(item)))))
        broken.push(`key of ${items.join()}`);
      inFlight.add(items);
      if (inFlight.size > limits.maxBatchesInFlight) broken.push(`${inFlight.size} batches`);
      if (items.length > limits.maxBatchSize) broken.push(`${items.length} items`);
      // Some take longer than the threshold.
      if (items.length % 3 === 0) await setTimeout(2);
      for (let turns = items.join('').length % 5; turns > 0; turns -= 1) await setImmediate();
      inFlight.delete(items);
      return items.map(resultOf);
    };
    const groupCommit = new GroupCommit<string, string>({ commit, keyOf, subjectOf: identity, ...limits });
    const items = Array.from({ length: 500 }, (_, number) => `${'abcdefghijk'[(number * number) % 11]}${number}`);
    const results: Promise<string>[] = [];
    for (const [number, item] of items.entries()) {
      results.push(groupCommit.submit(item));
      if (number % 13 === 0) await setImmediate();
    }
    expect(await Promise.all(results)).toEqual(items.map(resultOf));
    expect(broken).toEqual([]);
  });
});

/** Defers every item with a `?`, whose result the test gives. */
function deferring() {
  const deferred = new Map<string, { resolve: (result: string) => void; reject: (error: Error) => void }>();
  const batches: string[][] = [];
  const groupCommit = new GroupCommit<string, string>({
    async commit(items) {
      batches.push([...items]);
      await setImmediate();
      return items.map((item) =>
        item.includes('?')
          ? new Promise<string>((resolve, reject) => deferred.set(item, { resolve, reject }))
          : resultOf(item),
      );
    },
    keyOf,
    subjectOf: identity,
    maxBatchSize: 100,
    maxBatchesInFlight: 1,
    slowBatchThresholdMs: 60_000,
  });
  return { groupCommit, deferred, batches };
}

describe('deferred items', () => {
  test('do not keep the others of their batch, nor the next batch, waiting', async () => {
    const { groupCommit, deferred } = deferring();
    const late = groupCommit.submit('a?');
    expect(await groupCommit.submit('b1')).toBe(resultOf('b1'));
    expect(await groupCommit.submit('c1')).toBe(resultOf('c1'));
    deferred.get('a?')!.resolve('late');
    expect(await late).toBe('late');
  });

  test('keep their key taken until all of the key are settled, whatever comes of them', async () => {
    const { groupCommit, deferred, batches } = deferring();
    const late = [groupCommit.submit('a?1'), groupCommit.submit('a?2'), groupCommit.submit('a3')];
    expect(await late[2]).toBe(resultOf('a3'));
    const next = groupCommit.submit('a4');
    await groupCommit.submit('b1');
    expect(batches).toEqual([['a?1', 'a?2', 'a3'], ['b1']]);
    deferred.get('a?1')!.reject(new Error('offending'));
    await expect(late[0]).rejects.toThrow('offending');
    await groupCommit.submit('b2');
    expect(batches.at(-1)).toEqual(['b2']);
    deferred.get('a?2')!.resolve('late');
    expect(await Promise.all([late[1], next])).toEqual(['late', resultOf('a4')]);
  });

  test('that fail are not replayed', async () => {
    const { groupCommit, deferred, batches } = deferring();
    const late = groupCommit.submit('a?');
    await groupCommit.submit('b1');
    deferred.get('a?')!.reject(new Error('offending'));
    await expect(late).rejects.toThrow('offending');
    expect(batches.flat().filter((item) => item === 'a?')).toHaveLength(1);
  });
});

test('a batch holds each subject once: the second item of it goes into a later batch', async () => {
  const { submit, batches, succeed } = controlled({ subjectOf: (item) => item.slice(0, 2) });
  await submit('a1 once', 'a1 twice', 'a2', 'b1');
  await succeed(0);
  expect(batches()).toEqual([['a1 once', 'a2', 'b1'], ['a1 twice']]);
});

/** A group commit whose commits fail when the item `offending` is among them. */
function withOffending() {
  const committed: string[][] = [];
  const groupCommit = new GroupCommit<string, string>({
    async commit(items) {
      committed.push([...items]);
      await setImmediate();
      if (items.includes('offending')) throw new Error('Postgres rejected');
      return items.map(resultOf);
    },
    keyOf,
    subjectOf: identity,
    maxBatchSize: 100,
    maxBatchesInFlight: 2,
    slowBatchThresholdMs: 1,
  });
  return { groupCommit, committed };
}

describe('isolated', () => {
  test('a batch that fails is replayed in parts, in order, and only the offending one fails', async () => {
    const { groupCommit, committed } = withOffending();
    const outcomes = await Promise.allSettled(['a1', 'offending', 'b1'].map((item) => groupCommit.submit(item)));
    expect(outcomes).toEqual([
      { status: 'fulfilled', value: resultOf('a1') },
      { status: 'rejected', reason: new Error('Postgres rejected') },
      { status: 'fulfilled', value: resultOf('b1') },
    ]);
    expect(committed).toEqual([['a1', 'offending', 'b1'], ['a1', 'offending'], ['a1'], ['offending'], ['b1']]);
  });

  test('the neighbours of an offending item are committed in the time of about one more batch', async () => {
    const { groupCommit, committed } = withOffending();
    const items = Array.from({ length: 64 }, (_, number) => (number === 37 ? 'offending' : `a${number}`));
    const outcomes = await Promise.allSettled(items.map((item) => groupCommit.submit(item)));
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(1);
    // Two halves for each time that 64 can be halved.
    expect(committed).toHaveLength(1 + 2 * 6);
    const written = committed.filter((batch) => !batch.includes('offending')).flat();
    expect(written).toEqual(items.filter((item) => item !== 'offending'));
  });

  test('an item that fails alone is not replayed', async () => {
    const { groupCommit, committed } = withOffending();
    await expect(groupCommit.submit('offending')).rejects.toThrow('Postgres rejected');
    expect(committed).toEqual([['offending']]);
  });

  test('what follows a failed batch is committed', async () => {
    const { groupCommit } = withOffending();
    await expect(groupCommit.submit('offending')).rejects.toThrow('Postgres rejected');
    expect(await groupCommit.submit('g2')).toBe(resultOf('g2'));
  });

  test('the keys of a batch stay taken while it is replayed', async () => {
    const { submit, batches, fail, succeed, results } = controlled({ slowBatchThresholdMs: 1 });
    await submit('a1', 'b1');
    await fail(0, new Error('Postgres rejected'));
    expect(batches()).toEqual([['a1', 'b1'], ['a1']]);
    await submit('a2', 'b2', 'c1');
    await expect.poll(batches).toEqual([['a1', 'b1'], ['a1'], ['c1']]);
    await succeed(1);
    expect(batches().at(-1)).toEqual(['b1']);
    await succeed(3);
    await expect.poll(() => batches().at(-1)).toEqual(['a2', 'b2']);
    expect(await Promise.all(results.slice(0, 2))).toEqual([resultOf('a1'), resultOf('b1')]);
  });
});
