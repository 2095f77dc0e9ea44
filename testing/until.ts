import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../src/lib/errors.ts';

/** Options of {@link until}. */
export interface UntilOptions {
  /** Default 30 seconds, for a busy machine: only a failing test waits this long. */
  timeoutMs?: number;
  /** Default 20 ms. */
  intervalMs?: number;
  /** What the caller waits for, in the error's message. */
  what?: string;
}

/**
 * Polls until the condition neither throws nor resolves to something falsy, and resolves to its result. Rejects after
 * the time limit with the last result or error.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { timeoutMs = 30_000, intervalMs = 20, what = 'the condition' }: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined | 0 | ''>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let last: { result: T } | { error: unknown };
    try {
      last = { result: await condition() };
      if (last.result) return last.result as Exclude<T, false | null | undefined | 0 | ''>;
    } catch (error) {
      last = { error };
    }
    if (performance.now() >= deadline) throw timeoutError(what, timeoutMs, last);
    await sleep(intervalMs);
  }
}

function timeoutError(what: string, timeoutMs: number, last: { result: unknown } | { error: unknown }): Error {
  const waited = `${what} did not come true within ${timeoutMs} ms`;
  if ('result' in last) return new Error(`${waited}; at last it was ${JSON.stringify(last.result) ?? 'undefined'}`);
  return new Error(`${waited}; at last it threw: ${messageOf(last.error)}`, { cause: last.error });
}
