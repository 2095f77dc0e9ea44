import { setTimeout as sleep } from 'node:timers/promises';

/** A queue in which nothing was done for so long is stuck. */
const STUCK_MS = 30_000;

const LONGEST_PAUSE_MS = 200;

/**
 * Resolves once nothing is left. It looks ever more often as the end comes near: asking costs the queue something, and
 * noticing late would be counted as work.
 *
 * @throws when nothing was done for half a minute
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
    await sleep(pauseBefore(left, rate));
  }
}

/** A quarter of the time that the rest will take, as far as is known. */
function pauseBefore(left: number, rate: number): number {
  if (rate === 0) return 2;
  return Math.min(Math.max(left / rate / 4, 1), LONGEST_PAUSE_MS);
}
