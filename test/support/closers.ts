/** Closes what was opened, last in first out. All are closed whatever fails; the first error is thrown in the end. */
export class Closers {
  readonly #closers: (() => Promise<unknown>)[] = [];

  push(closer: () => Promise<unknown>): void {
    this.#closers.push(closer);
  }

  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (let closer = this.#closers.pop(); closer !== undefined; closer = this.#closers.pop()) {
      await closer().catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw errors[0];
  }
}
