/** What a coalescer needs to know of the work it groups. */
export interface CoalescerOptions<Item, Result> {
  /** Commits all items or none, and returns a result for each, in their order. */
  commit(items: readonly Item[]): Promise<Result[]>;
  /** Items of one key are never in two batches at once: they would wait for each other's lock. */
  keyOf(item: Item): string;
  /** Most items of one batch. */
  maximumBatchSize: number;
  /** Most batches that are being committed at once. Each needs a connection. */
  maximumBatchesInFlight: number;
  /**
   * While a batch is being committed everything else waits for it, so that the next one is large: two at once would be
   * half as large, and cost Postgres more. Unless it takes longer than this: then it waits for somebody, and no other key
   * is to be held up by that.
   */
  slowBatchThresholdMs: number;
}

/** Of a batch, so many are told at once that they are done. */
const PART_SIZE = 32;

interface Waiting<Item, Result> {
  item: Item;
  key: string;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/**
 * Groups what is submitted while a batch is being committed into the next one (group commit). An item that finds
 * nothing under way is committed at once: it never waits for company.
 *
 * A batch that fails is replayed in parts, down to single items, so that only the guilty one fails (isolated).
 */
export class Coalescer<Item, Result> {
  readonly #options: CoalescerOptions<Item, Result>;
  readonly #keysInFlight = new Set<string>();
  #waiting: Waiting<Item, Result>[] = [];
  #batchesInFlight = 0;
  /** The one that everything else waits for. */
  #awaited: readonly Waiting<Item, Result>[] | undefined;
  #isStarting = false;

  constructor(options: CoalescerOptions<Item, Result>) {
    this.#options = options;
  }

  /** Resolves with the item's own result once it is committed; rejects with its own error. */
  submit(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, key: this.#options.keyOf(item), resolve, reject });
      this.#startBatchesSoon();
    });
  }

  /** Within this turn of the event loop, but after all that arrives in it: it is committed in one go. */
  #startBatchesSoon(): void {
    if (this.#isStarting) return;
    this.#isStarting = true;
    setImmediate(() => {
      this.#isStarting = false;
      this.#startBatches();
    });
  }

  #startBatches(): void {
    while (this.#awaited === undefined && this.#batchesInFlight < this.#options.maximumBatchesInFlight) {
      const batch = this.#takeBatch();
      if (batch.length === 0) return;
      void this.#commitBatch(batch);
    }
  }

  /** The longest-waiting items whose keys are not in flight. */
  #takeBatch(): Waiting<Item, Result>[] {
    const batch: Waiting<Item, Result>[] = [];
    const rest: Waiting<Item, Result>[] = [];
    for (const waiting of this.#waiting) {
      const fits = batch.length < this.#options.maximumBatchSize && !this.#keysInFlight.has(waiting.key);
      (fits ? batch : rest).push(waiting);
    }
    this.#waiting = rest;
    for (const { key } of batch) this.#keysInFlight.add(key);
    return batch;
  }

  async #commitBatch(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    this.#batchesInFlight += 1;
    this.#awaited = batch;
    const patience = setTimeout(() => this.#stopAwaiting(batch), this.#options.slowBatchThresholdMs).unref();
    await this.#commit(batch);
    clearTimeout(patience);
    for (const { key } of batch) this.#keysInFlight.delete(key);
    this.#batchesInFlight -= 1;
    this.#stopAwaiting(batch);
  }

  #stopAwaiting(batch: readonly Waiting<Item, Result>[]): void {
    if (this.#awaited === batch) this.#awaited = undefined;
    this.#startBatches();
  }

  /** Settles every item, whatever comes of it. */
  async #commit(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await this.#options.commit(batch.map((waiting) => waiting.item));
      tellInParts(batch, results);
    } catch (error) {
      if (batch.length === 1) batch[0]!.reject(error);
      else await this.#replay(batch);
    }
  }

  /** By halves, down to single items: the guilty one is found in the time of about two batches. */
  async #replay(batch: readonly Waiting<Item, Result>[]): Promise<void> {
    const middle = Math.ceil(batch.length / 2);
    await this.#commit(batch.slice(0, middle));
    await this.#commit(batch.slice(middle));
  }
}

/**
 * Whoever is told that an item is done has something to do about it, as to tell the queue. For a large batch that takes
 * milliseconds, in which the queue would wait for all of it; part by part, it is at work on the first while the next
 * are told. The next batch is on its way to Postgres before.
 */
function tellInParts<Item, Result>(
  batch: readonly Waiting<Item, Result>[],
  results: readonly Result[],
  first = 0,
): void {
  setImmediate(() => {
    const next = first + PART_SIZE;
    batch.slice(first, next).forEach((waiting, position) => waiting.resolve(results[first + position]!));
    if (next < batch.length) tellInParts(batch, results, next);
  });
}
