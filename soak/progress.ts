import { setTimeout as sleep } from 'node:timers/promises';
import ora from 'ora';

/** How often a terminal is told, and how often a log. */
const TERMINAL_INTERVAL_MS = 500;
const LOG_INTERVAL_MS = 10_000;

/** Says on stderr how things stand, again and again: in place on a terminal, line by line in a log. */
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

  /** Keeps telling until the work has settled, and settles as it does. */
  async during<Result>(work: Promise<Result>, describe: () => Promise<string>): Promise<Result> {
    const settled = new AbortController();
    const telling = this.#keepTelling(describe, settled.signal);
    try {
      return await work;
    } finally {
      settled.abort();
      await telling;
    }
  }

  async #keepTelling(describe: () => Promise<string>, signal: AbortSignal): Promise<void> {
    const interval = this.#spinner.isEnabled ? TERMINAL_INTERVAL_MS : LOG_INTERVAL_MS;
    do {
      const text = await describe();
      if (!signal.aborted) this.#spinner.start(text);
    } while (await sleep(interval, true, { signal }).catch(() => false));
  }
}
