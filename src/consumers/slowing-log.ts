/** What is told of a trouble: the newest error, and how many were not told since the last time. */
export interface SlowingLogDetails {
  err: Error;
  untold: number;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

/** Tells a repeated trouble at once and then at a slowing pace, until it has stayed away for a while. */
export class SlowingLog {
  readonly #tell: (details: SlowingLogDetails) => void;
  readonly #now: () => number;
  #pauseMs = 0;
  #lastToldAt = Number.NEGATIVE_INFINITY;
  #lastSeenAt = Number.NEGATIVE_INFINITY;
  #untold = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(tell: (details: SlowingLogDetails) => void, now: () => number) {
    this.#tell = tell;
    this.#now = now;
  }

  report(error: Error): void {
    const now = this.#now();
    if (now - this.#lastSeenAt > LONGEST_PAUSE_MS) this.#pauseMs = 0;
    this.#lastSeenAt = now;
    if (now - this.#lastToldAt < this.#pauseMs) {
      this.#untold += 1;
      return;
    }
    this.#tell({ err: error, untold: this.#untold });
    this.#untold = 0;
    this.#lastToldAt = now;
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
  }
}
