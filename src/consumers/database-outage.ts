import { setTimeout as sleep } from 'node:timers/promises';
import { sqlErrorOf, kindOfSqlError } from '../db/sql-errors.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';

/** The worker is stopping while Postgres is away: what was under way has to be given back to the queue. */
export class WorkerStoppingError extends Error {
  override readonly name = 'WorkerStoppingError';
}

/** How an outage is told and waited for. */
export interface StoreOutageOptions {
  /** Aborted when the worker may wait no longer. */
  signal: AbortSignal;
  /** Told at the first failure and then at a slowing pace. */
  onUnreachable(detail: { failures: number; reason: string }): void;
  onReachable(detail: { failures: number }): void;
}

const STOPPED = 'the worker stopped before Postgres had answered';

/**
 * Runs work on Postgres, and while Postgres is away runs it again until it is back: the jobs behind it stay active and
 * spend no attempt, and as no slot becomes free the worker takes no more of them.
 */
export class DatabaseOutage {
  readonly #options: StoreOutageOptions;
  /** Of all work since Postgres last answered: what fails at the same time is one outage. */
  #failures = 0;

  constructor(options: StoreOutageOptions) {
    this.#options = options;
  }

  /** @throws {WorkerStoppingError} when the worker stops before the work is done, which then may or may not be */
  async retryWhileUnreachable<Result>(work: () => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const result = await this.#unlessStopped(work);
        this.#tellSuccess();
        return result;
      } catch (error) {
        if (kindOfSqlError(error) !== 'unreachable') throw error;
        this.#tellFailure(error);
        await this.#waitAfter(attempt);
      }
    }
  }

  /** Work that hangs must not keep the worker from stopping: doing it again elsewhere is harmless. */
  async #unlessStopped<Result>(work: () => Promise<Result>): Promise<Result> {
    const { signal } = this.#options;
    if (signal.aborted) throw new WorkerStoppingError(STOPPED);
    return new Promise((resolve, reject) => {
      const stop = () => reject(new WorkerStoppingError(STOPPED));
      signal.addEventListener('abort', stop, { once: true });
      work()
        .then(resolve, reject)
        .finally(() => signal.removeEventListener('abort', stop));
    });
  }

  #tellSuccess(): void {
    if (this.#failures === 0) return;
    this.#options.onReachable({ failures: this.#failures });
    this.#failures = 0;
  }

  #tellFailure(error: unknown): void {
    this.#failures += 1;
    const isPowerOfTwo = Number.isInteger(Math.log2(this.#failures));
    if (!isPowerOfTwo) return;
    this.#options.onUnreachable({ failures: this.#failures, reason: sqlErrorOf(error)?.message ?? String(error) });
  }

  async #waitAfter(attempt: number): Promise<void> {
    try {
      await sleep(backoffDelay(attempt, RECONNECT_BACKOFF), undefined, { signal: this.#options.signal });
    } catch (cause) {
      throw new WorkerStoppingError(STOPPED, { cause });
    }
  }
}
