import { QueueUnreachableError } from '../contracts/index.ts';

/** What is to be published, and for how long it may be tried. */
export interface HeldMessageOptions {
  /** Sends the message unless the signal is aborted. Rejects with a {@link QueueUnreachableError} to be tried again. */
  send(signal: AbortSignal): Promise<void>;
  /** In milliseconds, from now on. */
  holdMs: number;
  /** Aborted when nobody waits for it any more. */
  signal?: AbortSignal | undefined;
  /** Called once, when it is published or given up. */
  onSettled(message: HeldMessage): void;
}

/** A message that is tried until it is published or its time is over. */
export class HeldMessage {
  /** Resolves once it is published. */
  readonly published: Promise<void>;
  readonly #options: HeldMessageOptions;
  readonly #givenUp = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #settle: { resolve(): void; reject(error: unknown): void } | undefined;
  #lastError: QueueUnreachableError | undefined;

  constructor(options: HeldMessageOptions) {
    this.#options = options;
    this.published = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.#timer = setTimeout(() => this.giveUp(this.#overdue()), options.holdMs);
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  get isSettled(): boolean {
    return this.#settle === undefined;
  }

  /** One attempt. Resolves with whether the message is done with: published, refused or given up. */
  async attempt(): Promise<boolean> {
    if (this.isSettled) return true;
    try {
      await this.#options.send(this.#givenUp.signal);
      this.#take()?.resolve();
    } catch (error) {
      if (error instanceof QueueUnreachableError) this.#lastError = error;
      else this.giveUp(error);
    }
    return this.isSettled;
  }

  giveUp(error: unknown): void {
    this.#take()?.reject(error);
    this.#givenUp.abort(error);
  }

  readonly #onAbort = (): void => this.giveUp(this.#options.signal?.reason);

  /** The promise's functions, for the one who settles it. */
  #take(): { resolve(): void; reject(error: unknown): void } | undefined {
    const settle = this.#settle;
    if (settle === undefined) return undefined;
    this.#settle = undefined;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#options.onSettled(this);
    return settle;
  }

  #overdue(): QueueUnreachableError {
    const cause = this.#lastError?.cause;
    const reason = cause instanceof Error && cause.message !== '' ? cause.message : 'it did not answer';
    return new QueueUnreachableError(`${reason}, for the ${this.#options.holdMs} ms that this message was held`, {
      cause: this.#lastError,
    });
  }
}
