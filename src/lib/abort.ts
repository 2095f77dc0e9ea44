import { setTimeout as sleep } from 'node:timers/promises';

/** Settles as `work` does, or rejects with the signal's reason as soon as the signal is aborted. */
export function raceAbort<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * Settles as `work` does, or rejects once `milliseconds` have passed. The signal given to `work` is aborted then, so
 * that it stops what nobody waits for any more.
 */
export async function withTimeout<Value>(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const timedOut = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer within ${milliseconds} ms`));
      timedOut.abort();
    }, milliseconds);
  });
  try {
    return await Promise.race([work(timedOut.signal), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Sleeps until the time has passed or the signal is aborted; neither is an error. */
export async function abortableSleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  // The sleep rejects for nothing but its signal.
  await sleep(milliseconds, undefined, { signal }).catch(() => undefined);
}
