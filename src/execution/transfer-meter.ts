import type { TransferProgress } from './driver.ts';

/** Between two reports of progress. */
const REPORT_EVERY_MS = 100;

/** Counts what is transferred, and reports it now and then. */
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
    this.#tell();
  }

  addBytes(count: number): void {
    this.#progress.bytes += count;
    this.#tell();
  }

  addFile(): void {
    this.#progress.files += 1;
    this.#tell();
  }

  /** Reports how it stands in the end. */
  finish(): void {
    this.#reportedAt = -Infinity;
    this.#tell();
  }

  #tell(): void {
    const now = performance.now();
    if (now - this.#reportedAt < REPORT_EVERY_MS) return;
    this.#reportedAt = now;
    this.#report({ ...this.#progress });
  }
}
