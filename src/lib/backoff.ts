/** Exponential backoff: the delay doubles with each failure in a row, from `initialMs` up to `maxMs`. */
export interface BackoffPolicy {
  initialMs: number;
  maxMs: number;
}

/** The delay after so many failures in a row (at least 1), in milliseconds. */
export function backoffDelay(failures: number, { initialMs, maxMs }: BackoffPolicy): number {
  return Math.min(initialMs * 2 ** (failures - 1), maxMs);
}

/**
 * Between attempts to reach a store. 100 ms rides out a restart without a visible gap; 5 s is the longest that work
 * stays idle after the store is back.
 */
export const RECONNECT_BACKOFF: BackoffPolicy = { initialMs: 100, maxMs: 5_000 };
