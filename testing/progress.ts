import { setTimeout as sleep } from 'node:timers/promises';
import ora from 'ora';

/** How often the progress is updated on a terminal, and in a log. */
const TERMINAL_INTERVAL_MS = 500;
const LOG_INTERVAL_MS = 10_000;

/** The progress of a program on stderr: updated in place on a terminal, line by line in a log. */
export class Progress {
  readonly #spinner = ora({ stream: process.stderr, discardStdin: false });

  start(text: string): void {
    this.#spinner.start(text);
  }

  succeed(text: string): void {
    this.#spinner.succeed(text);
  }

  fail(text: string): void {
    this.#spinner.fail(text);
  }

  stop(): void {
    this.#spinner.stop();
  }

  /** Updates the progress until the work has settled, and settles as it does. */
  async during<Result>(work: Promise<Result>, describe: () => Promise<string>): Promise<Result> {
    const settled = new AbortController();
    const updating = this.#keepUpdating(describe, settled.signal);
    try {
      return await work;
    } finally {
      settled.abort();
      await updating;
    }
  }

  async #keepUpdating(describe: () => Promise<string>, signal: AbortSignal): Promise<void> {
    const interval = this.#spinner.isEnabled ? TERMINAL_INTERVAL_MS : LOG_INTERVAL_MS;
    do {
      const text = await describe();
      if (!signal.aborted) this.#spinner.start(text);
    } while (await sleep(interval, true, { signal }).catch(() => false));
  }
}
