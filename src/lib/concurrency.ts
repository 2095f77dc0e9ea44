import type { LimitFunction } from 'p-limit';
import pMap from 'p-map';

/**
 * Acquires one of a limiter's permits, first come first served, and resolves to the function that releases it. It is for
 * work that goes on after a function has returned; other work calls the limiter itself. Rejects with the signal's reason
 * while it waits.
 */
export function acquirePermit(limit: LimitFunction, signal?: AbortSignal): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal?.reason as Error);
    if (signal?.aborted === true) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    limit(() => {
      signal?.removeEventListener('abort', onAbort);
      // An aborted waiter passes its turn on.
      return signal?.aborted === true ? undefined : new Promise<void>((release) => resolve(release));
    }).catch((error: Error) => {
      signal?.removeEventListener('abort', onAbort);
      reject(error);
    });
  });
}

/**
 * Calls `work` for each item, at most `concurrency` calls in flight. After an error or an abort it starts no more calls,
 * waits for those in flight, and rejects with the first error: once it has settled, nothing is written any more.
 */
export async function forEachConcurrently<Item>(
  items: Iterable<Item> | AsyncIterable<Item>,
  { concurrency, signal }: { concurrency: number; signal: AbortSignal },
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const inFlight = new Set<Promise<void>>();
  const start = (item: Item) => {
    const call = work(item).finally(() => inFlight.delete(call));
    inFlight.add(call);
    return call;
  };
  try {
    await pMap(items, start, { concurrency, signal });
  } finally {
    await Promise.allSettled(inFlight);
  }
}
