import { sqlErrorOf, kindOfSqlError } from '../db/sql-errors.ts';
import { abortableSleep, raceAbort } from '../lib/abort.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';

/** The worker is stopping while Postgres is unreachable: the jobs in flight are requeued. */
export class WorkerStoppingError extends Error {
  override readonly name = 'WorkerStoppingError';
}

/** How an outage is reported and waited for. */
export interface DatabaseOutageOptions {
  /** Aborted when the worker may wait no longer. */
  signal: AbortSignal;
  /** Called at the first failure, and then at each power of two of them. */
  onUnreachable(detail: { failures: number; reason: string }): void;
  onReachable(detail: { failures: number }): void;
}

/**
 * Runs work on Postgres, and retries it with backoff while Postgres is unreachable. The jobs that wait for it stay active,
 * which does not count as an attempt, and as they keep their slots the worker fetches no more of them.
 */
export class DatabaseOutage {
  readonly #options: DatabaseOutageOptions;
  /** Of all work since Postgres last answered: concurrent failures are one outage. */
  #failures = 0;

  constructor(options: DatabaseOutageOptions) {
    this.#options = options;
  }

  /** @throws {WorkerStoppingError} when the worker stops before the work is done, which then may or may not be */
  async retryWhileUnreachable<Result>(work: () => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const result = await this.#runUnlessStopped(work);
        this.#reportSuccess();
        return result;
      } catch (error) {
        if (kindOfSqlError(error) !== 'unreachable') throw error;
        this.#reportFailure(error);
        await this.#waitAfter(attempt);
      }
    }
  }

  #reportSuccess(): void {
    if (this.#failures === 0) return;
    this.#options.onReachable({ failures: this.#failures });
    this.#failures = 0;
  }

  #reportFailure(error: unknown): void {
    this.#failures += 1;
    const isPowerOfTwo = Number.isInteger(Math.log2(this.#failures));
    if (!isPowerOfTwo) return;
    this.#options.onUnreachable({ failures: this.#failures, reason: sqlErrorOf(error)?.message ?? String(error) });
  }

  /** Work that hangs must not keep the worker from stopping: to repeat it elsewhere is harmless. */
  async #runUnlessStopped<Result>(work: () => Promise<Result>): Promise<Result> {
    const { signal } = this.#options;
    this.#throwIfStopped();
    try {
      return await raceAbort(work(), signal);
    } catch (error) {
      if (error === signal.reason) this.#throwIfStopped();
      throw error;
    }
  }

  async #waitAfter(attempt: number): Promise<void> {
    await abortableSleep(backoffDelay(attempt, RECONNECT_BACKOFF), this.#options.signal);
    this.#throwIfStopped();
  }

  #throwIfStopped(): void {
    if (this.#options.signal.aborted) {
      throw new WorkerStoppingError('the worker stopped before Postgres had answered');
    }
  }
}
