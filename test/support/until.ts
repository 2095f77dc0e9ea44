import { setTimeout as delay } from 'node:timers/promises';

/** Options of {@link until}. */
export interface UntilOptions {
  /** Default 30 seconds: long for a busy machine, and spent only by a test that fails. */
  timeoutMs?: number;
  /** Default 20 ms. */
  intervalMs?: number;
  /** What is waited for, for the error. */
  what?: string;
}

/**
 * Polls until the condition neither throws nor resolves to something falsy, and resolves to what it resolved to.
 * Rejects after the time limit, saying how the condition stood at last.
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
    if (performance.now() >= deadline) throw giveUp(what, timeoutMs, last);
    await delay(intervalMs);
  }
}

function giveUp(what: string, timeoutMs: number, last: { result: unknown } | { error: unknown }): Error {
  const waited = `${what} did not come true within ${timeoutMs} ms`;
  if ('result' in last) return new Error(`${waited}; at last it was ${JSON.stringify(last.result) ?? 'undefined'}`);
  const message = last.error instanceof Error ? last.error.message : String(last.error);
  return new Error(`${waited}; at last it threw: ${message}`, { cause: last.error });
}
