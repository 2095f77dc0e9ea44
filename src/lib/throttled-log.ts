import { backoffDelay } from './backoff.ts';
import type { BackoffPolicy } from './backoff.ts';

/** One line about a repeated error: the newest one, and how many were suppressed since the last line. */
export interface ThrottledLogDetails {
  err: Error;
  suppressed: number;
}

const BACKOFF: BackoffPolicy = { initialMs: 1_000, maxMs: 60_000 };

/**
 * Logs the first of a series of errors, then at most one per growing interval (1 s to 1 min). A series ends when no
 * error was reported for a minute.
 */
export class ThrottledLog {
  readonly #log: (details: ThrottledLogDetails) => void;
  readonly #now: () => number;
  #linesInSeries = 0;
  #lastLoggedAt = Number.NEGATIVE_INFINITY;
  #lastReportedAt = Number.NEGATIVE_INFINITY;
  #suppressed = 0;

  /** @param now milliseconds of a monotonic clock */
  constructor(log: (details: ThrottledLogDetails) => void, now: () => number) {
    this.#log = log;
    this.#now = now;
  }

  report(error: Error): void {
    const now = this.#now();
    if (now - this.#lastReportedAt > BACKOFF.maxMs) this.#linesInSeries = 0;
    this.#lastReportedAt = now;
    const intervalMs = this.#linesInSeries === 0 ? 0 : backoffDelay(this.#linesInSeries, BACKOFF);
    if (now - this.#lastLoggedAt < intervalMs) {
      this.#suppressed += 1;
      return;
    }
    this.#log({ err: error, suppressed: this.#suppressed });
    this.#suppressed = 0;
    this.#lastLoggedAt = now;
    this.#linesInSeries += 1;
  }
}
