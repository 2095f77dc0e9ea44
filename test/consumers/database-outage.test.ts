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
  const reports: string[] = [];
  const outage = new DatabaseOutage({
    signal,
    onUnreachable: ({ failures, reason }) => reports.push(`unreachable ${failures}: ${reason}`),
    onReachable: ({ failures }) => reports.push(`reachable after ${failures}`),
  });
  return { outage, reports };
}

/** Work that fails so many times, then succeeds. */
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
  ])('no-loss: work that fails with %s is retried until it succeeds', async (code) => {
    const { outage } = outageWith();
    const work = failing(3, code);
    expect(await outage.retryWhileUnreachable(work)).toBe('done');
    expect(work).toHaveBeenCalledTimes(4);
  });

  test('the code is read from the cause of a drizzle error', async () => {
    const { outage } = outageWith();
    const work = vi.fn<() => Promise<string>>(async () => 'done');
    work.mockRejectedValueOnce(new Error('Failed query', { cause: errorWith('57P01') }));
    expect(await outage.retryWhileUnreachable(work)).toBe('done');
  });

  test('the outage is reported at the 1st, 2nd, 4th, 8th, … failure, and at its end', async () => {
    const { outage, reports } = outageWith();
    await outage.retryWhileUnreachable(failing(17, '57P01'));
    const unreachable = [1, 2, 4, 8, 16].map((failures) => `unreachable ${failures}: failed with 57P01`);
    expect(reports).toEqual([...unreachable, 'reachable after 17']);
  });

  test('concurrent failures are reported as one outage', async () => {
    const { outage, reports } = outageWith();
    await Promise.all([
      outage.retryWhileUnreachable(failing(3, '57P01')),
      outage.retryWhileUnreachable(failing(3, '57P01')),
    ]);
    const unreachable = [1, 2, 4].map((failures) => `unreachable ${failures}: failed with 57P01`);
    expect(reports).toEqual([...unreachable, 'reachable after 6']);
  });

  test('the backoff doubles from 100 ms to 5 s', async () => {
    const { outage } = outageWith();
    await outage.retryWhileUnreachable(failing(20, 'ECONNREFUSED'));
    expect(waits.delays.slice(0, 7)).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000]);
    expect(new Set(waits.delays.slice(7))).toEqual(new Set([5_000]));
  });

  test('nothing is reported when work succeeds on its first attempt', async () => {
    const { outage, reports } = outageWith();
    expect(await outage.retryWhileUnreachable(async () => 'done')).toBe('done');
    expect(reports).toEqual([]);
  });
});

test.for(['23505', 'P0001', '40001', '40P01', '55P03'])(
  'an error of the statement, %s, is thrown without a retry',
  async (code) => {
    const { outage, reports } = outageWith();
    const work = failing(1, code);
    await expect(outage.retryWhileUnreachable(work)).rejects.toThrow(`failed with ${code}`);
    expect(work).toHaveBeenCalledOnce();
    expect(reports).toEqual([]);
  },
);

test('an error that is not from Postgres is thrown without a retry', async () => {
  const { outage } = outageWith();
  const error = new TypeError('undefined is not a function');
  await expect(outage.retryWhileUnreachable(() => Promise.reject(error))).rejects.toBe(error);
});

describe('retryWhileUnreachable, when the worker stops,', () => {
  test('starts no work', async () => {
    const { outage } = outageWith(AbortSignal.abort());
    const work = failing(0, 'none');
    await expect(outage.retryWhileUnreachable(work)).rejects.toBeInstanceOf(WorkerStoppingError);
    expect(work).not.toHaveBeenCalled();
  });

  test('rejects during the backoff, without waiting for its end', async () => {
    waits.areLong = true;
    const stopping = new AbortController();
    const { outage } = outageWith(stopping.signal);
    const [outcome] = await Promise.allSettled([
      outage.retryWhileUnreachable(failing(1, '57P01')),
      vi.waitFor(() => expect(waits.delays).toHaveLength(1)).then(() => stopping.abort()),
    ]);
    expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(WorkerStoppingError) });
  });

  test('rejects while work in flight hangs', async () => {
    const stopping = new AbortController();
    const { outage } = outageWith(stopping.signal);
    const result = outage.retryWhileUnreachable(() => {
      stopping.abort();
      return new Promise<never>(() => undefined);
    });
    await expect(result).rejects.toBeInstanceOf(WorkerStoppingError);
  });
});
