import type { TransferProgress } from './driver.ts';

const REPORT_INTERVAL_MS = 100;

/** Counts transferred files and bytes, and reports them at most every 100 ms. */
export class TransferMeter {
  readonly #progress: TransferProgress;
  readonly #report: (progress: TransferProgress) => void;
  #reportedAt = -Infinity;

  constructor(
    totals: Pick<TransferProgress, 'direction' | 'totalFiles' | 'totalBytes'>,
    report: ((progress: TransferProgress) => void) | undefined,
  ) {
    this.#progress = { ...totals, files: 0, bytes: 0 };
    this.#report = report ?? (() => undefined);
    this.#reportThrottled();
  }

  addBytes(count: number): void {
    this.#progress.bytes += count;
    this.#reportThrottled();
  }

  addFile(): void {
    this.#progress.files += 1;
    this.#reportThrottled();
  }

  /** Reports the final counts. */
  finish(): void {
    this.#reportedAt = -Infinity;
    this.#reportThrottled();
  }

  #reportThrottled(): void {
    const now = performance.now();
    if (now - this.#reportedAt < REPORT_INTERVAL_MS) return;
    this.#reportedAt = now;
    this.#report({ ...this.#progress });
  }
}
