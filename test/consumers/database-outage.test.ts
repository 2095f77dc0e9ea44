import type * as timers from 'node:timers/promises';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { DatabaseOutage, WorkerStoppingError } from '../../src/consumers/database-outage.ts';

const waits = vi.hoisted(() => ({ delays: [] as number[], areLong: false }));

/** Waits are recorded instead of waited for, unless a test wants them to last. */
vi.mock('node:timers/promises', async (importOriginal) => {
  const original = await importOriginal<typeof timers>();
  const setTimeout: typeof original.setTimeout = (delay, value, options) => {
    waits.delays.push(delay ?? 0);
    return original.setTimeout(waits.areLong ? 60_000 : 0, value, options);
  };
  return { ...original, setTimeout };
});

beforeEach(() => {
  waits.delays = [];
  waits.areLong = false;
});

/** An error as the driver raises it: of Postgres when the code is a SQLSTATE, else of the connection. */
const errorWith = (code: string) => {
  const severity = /^[0-9P]/.test(code) ? { severity: 'ERROR' } : {};
  return Object.assign(new Error(`failed with ${code}`), { code, ...severity });
};

function outageWith(signal = new AbortController().signal) {
  const told: string[] = [];
  const outage = new DatabaseOutage({
    signal,
    onUnreachable: ({ failures, reason }) => told.push(`away ${failures}: ${reason}`),
    onReachable: ({ failures }) => told.push(`back after ${failures}`),
  });
  return { outage, told };
}

/** Work that fails so many times before it is done. */
function failing(times: number, code: string) {
  let failures = 0;
  return vi.fn<() => Promise<string>>(async () => {
    failures += 1;
    if (failures <= times) throw errorWith(code);
    return 'done';
  });
}

describe('while Postgres is unreachable', () => {
  test.for([
    '57P01',
    '57P03',
    '08006',
    '53300',
    '25006',
    '25P03',
    '25P04',
    'ECONNREFUSED',
    'ECONNRESET',
    'CONNECTION_CLOSED',
  ])('no-loss: work that fails with %s is done again until it succeeds', async (code) => {
    const { outage } = outageWith();
    const work = failing(3, code);
    expect(await outage.retryWhileUnreachable(work)).toBe('done');
    expect(work).toHaveBeenCalledTimes(4);
  });

  test('the code is found within the error that drizzle wraps around it', async () => {
    const { outage } = outageWith();
    const work = vi.fn<() => Promise<string>>(async () => 'done');
    work.mockRejectedValueOnce(new Error('Failed query', { cause: errorWith('57P01') }));
    expect(await outage.retryWhileUnreachable(work)).toBe('done');
  });

  test('it is told at the 1st, 2nd, 4th, 8th, … failure, and when it is back', async () => {
    const { outage, told } = outageWith();
    await outage.retryWhileUnreachable(failing(17, '57P01'));
    const away = [1, 2, 4, 8, 16].map((failures) => `away ${failures}: failed with 57P01`);
    expect(told).toEqual([...away, 'back after 17']);
  });

  test('what fails at the same time is told as one outage', async () => {
    const { outage, told } = outageWith();
    await Promise.all([
      outage.retryWhileUnreachable(failing(3, '57P01')),
      outage.retryWhileUnreachable(failing(3, '57P01')),
    ]);
    const away = [1, 2, 4].map((failures) => `away ${failures}: failed with 57P01`);
    expect(told).toEqual([...away, 'back after 6']);
  });

  test('waits grow from a tenth of a second to five', async () => {
    const { outage } = outageWith();
    await outage.retryWhileUnreachable(failing(20, 'ECONNREFUSED'));
    expect(waits.delays.slice(0, 7)).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000]);
    expect(new Set(waits.delays.slice(7))).toEqual(new Set([5_000]));
  });

  test('nothing is told of work that succeeds at once', async () => {
    const { outage, told } = outageWith();
    expect(await outage.retryWhileUnreachable(async () => 'done')).toBe('done');
    expect(told).toEqual([]);
  });
});

test.for(['23505', 'P0001', '40001', '40P01', '55P03'])(
  'an error of the work itself, %s, is passed on at once',
  async (code) => {
    const { outage, told } = outageWith();
    const work = failing(1, code);
    await expect(outage.retryWhileUnreachable(work)).rejects.toThrow(`failed with ${code}`);
    expect(work).toHaveBeenCalledOnce();
    expect(told).toEqual([]);
  },
);

test('a fault of our own is passed on at once', async () => {
  const { outage } = outageWith();
  const fault = new TypeError('undefined is not a function');
  await expect(outage.retryWhileUnreachable(() => Promise.reject(fault))).rejects.toBe(fault);
});

describe('when the worker stops', () => {
  test('work is not begun any more', async () => {
    const { outage } = outageWith(AbortSignal.abort());
    const work = failing(0, 'none');
    await expect(outage.retryWhileUnreachable(work)).rejects.toBeInstanceOf(WorkerStoppingError);
    expect(work).not.toHaveBeenCalled();
  });

  test('a wait for Postgres ends at once', async () => {
    waits.areLong = true;
    const stopping = new AbortController();
    const { outage } = outageWith(stopping.signal);
    const [outcome] = await Promise.allSettled([
      outage.retryWhileUnreachable(failing(1, '57P01')),
      vi.waitFor(() => expect(waits.delays).toHaveLength(1)).then(() => stopping.abort()),
    ]);
    expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(WorkerStoppingError) });
  });

  test('work that is in flight and hangs is given up at once', async () => {
    const stopping = new AbortController();
    const { outage } = outageWith(stopping.signal);
    const result = outage.retryWhileUnreachable(() => {
      stopping.abort();
      return new Promise<never>(() => undefined);
    });
    await expect(result).rejects.toBeInstanceOf(WorkerStoppingError);
  });
});
