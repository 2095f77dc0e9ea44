import { setTimeout as sleep } from 'node:timers/promises';

/** Sleeps until the time is over or the signal is aborted, which is no error. */
export async function restFor(milliseconds: number, signal: AbortSignal): Promise<void> {
  // A sleep rejects for nothing but its signal.
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined);
}
