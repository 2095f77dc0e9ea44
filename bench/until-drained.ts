import { setTimeout as sleep } from 'node:timers/promises';

/** A queue without progress for this long is stuck. */
const STUCK_MS = 30_000;

const MAX_INTERVAL_MS = 200;

/**
 * Resolves once nothing is left. It polls more often towards the end: a poll costs the queue something, and a late one would
 * be measured as work.
 *
 * @throws when there was no progress for half a minute
 */
export async function untilDrained(countLeft: () => Promise<number>): Promise<void> {
  const startedAt = performance.now();
  let first: number | undefined;
  let last = { left: Number.POSITIVE_INFINITY, at: startedAt };
  for (;;) {
    const left = await countLeft();
    if (left === 0) return;
    const now = performance.now();
    first ??= left;
    if (left < last.left) last = { left, at: now };
    if (now - last.at > STUCK_MS) throw new Error(`${left} jobs are left, and none was done for ${STUCK_MS} ms`);
    const rate = (first - left) / (now - startedAt);
    await sleep(pollInterval(left, rate));
  }
}

/** A quarter of the estimated time that the rest takes. */
function pollInterval(left: number, rate: number): number {
  if (rate === 0) return 2;
  return Math.min(Math.max(left / rate / 4, 1), MAX_INTERVAL_MS);
}
