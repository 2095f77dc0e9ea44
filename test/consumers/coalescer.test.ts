import { setImmediate, setTimeout } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Coalescer } from '../../src/consumers/coalescer.ts';
import type { CoalescerOptions } from '../../src/consumers/coalescer.ts';

type Options = CoalescerOptions<string, string>;

const resultOf = (item: string) => `result of ${item}`;

/** The letter an item starts with. */
const keyOf = (item: string) => item.slice(0, 1);

/** A coalescer of which the test says when a batch is committed. */
function controlled(options: Partial<Options> = {}) {
  const started: { items: readonly string[]; succeed: () => void; fail: (error: Error) => void }[] = [];
  const commit: Options['commit'] = (items) =>
    new Promise((resolve, reject) => {
      started.push({ items, succeed: () => resolve(items.map(resultOf)), fail: reject });
    });
  const coalescer = new Coalescer<string, string>({
    commit,
    keyOf,
    maximumBatchSize: 100,
    maximumBatchesInFlight: 2,
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
      results.push(...items.map((item) => coalescer.submit(item)));
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
  test('an item that finds nothing under way is committed at once, alone', async () => {
    const { submit, batches, succeed, results } = controlled();
    await submit('a1');
    expect(batches()).toEqual([['a1']]);
    await succeed(0);
    expect(await results[0]).toBe(resultOf('a1'));
  });

  test('what is submitted in one go is committed in one go', async () => {
    const { submit, batches } = controlled();
    await submit('a1', 'b1', 'c1');
    expect(batches()).toEqual([['a1', 'b1', 'c1']]);
  });

  test('what arrives while a batch is under way is committed as one, after it', async () => {
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
    const { submit, batches, succeed } = controlled({ maximumBatchSize: 2 });
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
    const { submit, batches, succeed } = controlled({ maximumBatchSize: 2 });
    await submit('a1', 'b1', 'c1', 'd1', 'e1');
    await succeed(0);
    await succeed(1);
    await succeed(2);
    expect(batches()).toEqual([['a1', 'b1'], ['c1', 'd1'], ['e1']]);
  });

  test('what waits beside a batch that takes long makes one of its own', async () => {
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

  test('no more batches are under way than allowed', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const { submit, batches, succeed } = controlled({
      maximumBatchSize: 1,
      maximumBatchesInFlight: 2,
      slowBatchThresholdMs: 5,
    });
    await submit('a1', 'b1', 'c1');
    vi.advanceTimersByTime(5);
    vi.advanceTimersByTime(5);
    expect(batches()).toEqual([['a1'], ['b1']]);
    await succeed(0);
    expect(batches()).toEqual([['a1'], ['b1'], ['c1']]);
  });

  test('items of one key are never in two batches at once, and do not hold up other keys', async () => {
    const { submit, batches, succeed } = controlled({ slowBatchThresholdMs: 1 });
    await submit('a1');
    await submit('a2', 'b1');
    await expect.poll(batches).toEqual([['a1'], ['b1']]);
    await succeed(0);
    expect(batches()).toEqual([['a1'], ['b1'], ['a2']]);
  });

  test('batches are no more and no larger than allowed, and share no key, for any order of arrival and of completion', async () => {
    const limits = { maximumBatchSize: 7, maximumBatchesInFlight: 3, slowBatchThresholdMs: 1 };
    const underWay = new Set<readonly string[]>();
    const broken: string[] = [];
    const commit = async (items: readonly string[]) => {
      const keys = new Set(items.map(keyOf));
      if ([...underWay].some((batch) => batch.some((item) => keys.has(keyOf(item)))))
        broken.push(`key of ${items.join()}`);
      underWay.add(items);
      if (underWay.size > limits.maximumBatchesInFlight) broken.push(`${underWay.size} batches`);
      if (items.length > limits.maximumBatchSize) broken.push(`${items.length} items`);
      // Some take longer than the patience.
      if (items.length % 3 === 0) await setTimeout(2);
      for (let turns = items.join('').length % 5; turns > 0; turns -= 1) await setImmediate();
      underWay.delete(items);
      return items.map(resultOf);
    };
    const coalescer = new Coalescer<string, string>({ commit, keyOf, ...limits });
    const items = Array.from({ length: 500 }, (_, number) => `${'abcdefghijk'[(number * number) % 11]}${number}`);
    const results: Promise<string>[] = [];
    for (const [number, item] of items.entries()) {
      results.push(coalescer.submit(item));
      if (number % 13 === 0) await setImmediate();
    }
    expect(await Promise.all(results)).toEqual(items.map(resultOf));
    expect(broken).toEqual([]);
  });
});

/** A coalescer whose commits fail when the item `guilty` is among them. */
function withGuilty() {
  const committed: string[][] = [];
  const coalescer = new Coalescer<string, string>({
    async commit(items) {
      committed.push([...items]);
      await setImmediate();
      if (items.includes('guilty')) throw new Error('Postgres refused');
      return items.map(resultOf);
    },
    keyOf,
    maximumBatchSize: 100,
    maximumBatchesInFlight: 2,
    slowBatchThresholdMs: 1,
  });
  return { coalescer, committed };
}

describe('isolated', () => {
  test('a batch that fails is replayed in parts, in order, and only the guilty one fails', async () => {
    const { coalescer, committed } = withGuilty();
    const outcomes = await Promise.allSettled(['a1', 'guilty', 'b1'].map((item) => coalescer.submit(item)));
    expect(outcomes).toEqual([
      { status: 'fulfilled', value: resultOf('a1') },
      { status: 'rejected', reason: new Error('Postgres refused') },
      { status: 'fulfilled', value: resultOf('b1') },
    ]);
    expect(committed).toEqual([['a1', 'guilty', 'b1'], ['a1', 'guilty'], ['a1'], ['guilty'], ['b1']]);
  });

  test('the neighbours of a guilty item are committed in the time of about one more batch', async () => {
    const { coalescer, committed } = withGuilty();
    const items = Array.from({ length: 64 }, (_, number) => (number === 37 ? 'guilty' : `a${number}`));
    const outcomes = await Promise.allSettled(items.map((item) => coalescer.submit(item)));
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(1);
    // Two halves for each time that 64 can be halved.
    expect(committed).toHaveLength(1 + 2 * 6);
    const written = committed.filter((batch) => !batch.includes('guilty')).flat();
    expect(written).toEqual(items.filter((item) => item !== 'guilty'));
  });

  test('an item that fails alone is not tried a second time', async () => {
    const { coalescer, committed } = withGuilty();
    await expect(coalescer.submit('guilty')).rejects.toThrow('Postgres refused');
    expect(committed).toEqual([['guilty']]);
  });

  test('what follows a failed batch is committed', async () => {
    const { coalescer } = withGuilty();
    await expect(coalescer.submit('guilty')).rejects.toThrow('Postgres refused');
    expect(await coalescer.submit('g2')).toBe(resultOf('g2'));
  });

  test('while a batch is replayed its keys stay in flight', async () => {
    const { submit, batches, fail, succeed, results } = controlled({ slowBatchThresholdMs: 1 });
    await submit('a1', 'b1');
    await fail(0, new Error('Postgres refused'));
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
