/** Lets so many sessions of a connection be open at a time; who comes later waits, first come first served. */
export class SessionSlots {
  #free: number;
  readonly #waiting = new Map<() => void, (error: Error) => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Waits for a slot and resolves to what gives it back; giving it back twice is giving it back once.
   * Rejects with the reason of the signal.
   */
  async take(signal: AbortSignal | undefined): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#turn(signal);
    let isHeld = true;
    return () => {
      if (isHeld) this.#giveBack();
      isHeld = false;
    };
  }

  /** Sends away all who wait. */
  rejectWaiting(error: Error): void {
    for (const reject of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const leave = (outcome: () => void) => {
        signal?.removeEventListener('abort', onAbort);
        outcome();
      };
      const onTurn = () => leave(resolve);
      const onAbort = () => {
        this.#waiting.delete(onTurn);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.set(onTurn, (error) => leave(() => reject(error)));
    });
  }

  /** Whoever waits longest gets it at once, so that nobody who comes just now is served first. */
  #giveBack(): void {
    const [next] = this.#waiting.keys();
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
