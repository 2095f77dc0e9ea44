import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';

/** A job that fails by itself is tried so often that a passing cause costs little, and a lasting one next to nothing. */
const PAUSES: BackoffPolicy = { initialMs: 1_000, maxMs: 60_000 };

/**
 * Jobs that could not be published although the queue answers. Each is left alone for a while that grows with its
 * failures, so that it takes no room from jobs of other runs (isolated).
 */
export class JobsSetAside {
  readonly #now: () => number;
  readonly #jobs = new Map<string, { failures: number; until: number }>();

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Sets a job aside once more. Returns for how many milliseconds. */
  add(id: string): number {
    const failures = (this.#jobs.get(id)?.failures ?? 0) + 1;
    const pauseMs = backoffDelay(failures, PAUSES);
    this.#jobs.set(id, { failures, until: this.#now() + pauseMs });
    return pauseMs;
  }

  /** The jobs to leave alone now, and in how many milliseconds the first of them is to be tried again. */
  current(): { ids: string[]; msUntilNext: number } {
    const now = this.#now();
    const ids: string[] = [];
    let msUntilNext = Number.POSITIVE_INFINITY;
    for (const [id, { until }] of this.#jobs) {
      if (until > now) {
        ids.push(id);
        msUntilNext = Math.min(msUntilNext, until - now);
      } else if (now - until > PAUSES.maxMs) {
        // It has not failed again for so long that it must be gone: published, or taken out by somebody.
        this.#jobs.delete(id);
      }
    }
    return { ids, msUntilNext };
  }
}
