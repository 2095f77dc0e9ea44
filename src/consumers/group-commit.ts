/** What a {@link GroupCommit} needs to know of the items it commits. */
export interface GroupCommitOptions<Item, Result> {
  /**
   * Commits a batch: all items or none. Resolves with the results in the order of the items; one that is committed later,
   * outside of this batch, has a promise of its result.
   */
  commit(items: readonly Item[]): Promise<readonly (Result | Promise<Result>)[]>;
  /** Items of one key are never in flight in two batches: they would wait for the same lock. */
  keyOf(item: Item): string;
  /** A batch holds each subject once; a second item of it goes into a later batch. */
  subjectOf(item: Item): string;
  /** Most items of one batch. */
  maxBatchSize: number;
  /** Most batches that are being committed concurrently. Each needs a connection. */
  maxBatchesInFlight: number;
  /** A batch in flight for longer is blocked on a lock, so that the next one may start. */
  slowBatchThresholdMs: number;
}

/** Items of a batch that are settled in one turn of the event loop. */
const SETTLED_PER_TURN = 32;

interface Entry<Item, Result> {
  item: Item;
  key: string;
  subject: string;
  /** Set once the item is deferred. */
  deferredResult?: Promise<Result>;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/**
 * Group commit: items submitted while a batch is being committed make up the next batch.
 *
 * An item is
 * - **waiting**, in the order of submission, until a batch may start and takes it. Batches start at the end of a turn of the
 *   event loop, so that what is submitted in one turn is committed together. An item is passed over while another batch
 *   has its key in flight, while its subject is in the batch already, and while the batch is full;
 * - **in flight**, its key taken, while the batch is being committed;
 * - **settled** with its result once the batch is committed, or **deferred** when `commit` returns a promise for it: then
 *   its key stays taken until that promise settles, while the batch is over for all the others. A key is free again once
 *   all its items of the batch are settled.
 *
 * A batch is
 * - **blocking** from its start: no other batch starts, since one large batch costs Postgres less than two small ones;
 * - **slow** after `slowBatchThresholdMs`: it is blocked on a lock, and the next batch may start, without its keys and up
 *   to `maxBatchesInFlight`;
 * - **replayed** when it fails: by halves, in order, down to single items, so that only the offending item is rejected
 *   (isolated), in the time of about two batches. Its keys stay taken meanwhile;
 * - **over** when `commit` has resolved, or every half of its replay has settled.
 */
export class GroupCommit<Item, Result> {
  readonly #options: GroupCommitOptions<Item, Result>;
  readonly #keysInFlight = new Set<string>();
  #waiting: Entry<Item, Result>[] = [];
  #batchesInFlight = 0;
  #blockingBatch: readonly Entry<Item, Result>[] | undefined;
  #isStarting = false;

  constructor(options: GroupCommitOptions<Item, Result>) {
    this.#options = options;
  }

  /** Resolves with the item's own result once it is committed; rejects with its own error. */
  submit(item: Item): Promise<Result> {
    const key = this.#options.keyOf(item);
    const subject = this.#options.subjectOf(item);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, key, subject, resolve, reject });
      this.#startBatchesSoon();
    });
  }

  #startBatchesSoon(): void {
    if (this.#isStarting) return;
    this.#isStarting = true;
    setImmediate(() => {
      this.#isStarting = false;
      this.#startBatches();
    });
  }

  #startBatches(): void {
    while (this.#blockingBatch === undefined && this.#batchesInFlight < this.#options.maxBatchesInFlight) {
      const batch = this.#takeBatch();
      if (batch.length === 0) return;
      void this.#runBatch(batch);
    }
  }

  #takeBatch(): Entry<Item, Result>[] {
    const batch: Entry<Item, Result>[] = [];
    const passedOver: Entry<Item, Result>[] = [];
    const subjects = new Set<string>();
    for (const entry of this.#waiting) {
      const fits =
        batch.length < this.#options.maxBatchSize && !this.#keysInFlight.has(entry.key) && !subjects.has(entry.subject);
      (fits ? batch : passedOver).push(entry);
      if (fits) subjects.add(entry.subject);
    }
    this.#waiting = passedOver;
    for (const { key } of batch) this.#keysInFlight.add(key);
    return batch;
  }

  async #runBatch(batch: readonly Entry<Item, Result>[]): Promise<void> {
    this.#batchesInFlight += 1;
    this.#blockingBatch = batch;
    const slow = setTimeout(() => this.#stopBlocking(batch), this.#options.slowBatchThresholdMs).unref();
    await this.#commit(batch);
    clearTimeout(slow);
    this.#freeKeys(batch);
    this.#batchesInFlight -= 1;
    this.#stopBlocking(batch);
  }

  #stopBlocking(batch: readonly Entry<Item, Result>[]): void {
    if (this.#blockingBatch === batch) this.#blockingBatch = undefined;
    this.#startBatches();
  }

  #freeKeys(batch: readonly Entry<Item, Result>[]): void {
    const deferred = new Map<string, Promise<Result>[]>();
    for (const { key, deferredResult } of batch) {
      if (deferredResult !== undefined) deferred.set(key, [...(deferred.get(key) ?? []), deferredResult]);
    }
    for (const { key } of batch) if (!deferred.has(key)) this.#keysInFlight.delete(key);
    for (const [key, results] of deferred) void this.#freeKeyAfter(key, results);
  }

  async #freeKeyAfter(key: string, results: readonly Promise<Result>[]): Promise<void> {
    await Promise.allSettled(results);
    this.#keysInFlight.delete(key);
    // Keys that were deferred together are freed in one turn: their items go into one batch.
    this.#startBatchesSoon();
  }

  async #commit(batch: readonly Entry<Item, Result>[]): Promise<void> {
    try {
      this.#settle(batch, await this.#options.commit(batch.map(({ item }) => item)));
    } catch (error) {
      if (batch.length === 1) batch[0]!.reject(error);
      else await this.#replay(batch);
    }
  }

  async #replay(batch: readonly Entry<Item, Result>[]): Promise<void> {
    const middle = Math.ceil(batch.length / 2);
    await this.#commit(batch.slice(0, middle));
    await this.#commit(batch.slice(middle));
  }

  #settle(batch: readonly Entry<Item, Result>[], results: readonly (Result | Promise<Result>)[]): void {
    const committed: (() => void)[] = [];
    batch.forEach((entry, position) => {
      const result = results[position]!;
      if (result instanceof Promise) {
        entry.deferredResult = result;
        result.then(
          (late) => entry.resolve(late),
          (error: unknown) => entry.reject(error),
        );
      } else {
        committed.push(() => entry.resolve(result));
      }
    });
    inTurns(committed);
  }
}

/**
 * Calls a few in each turn of the event loop. Whoever awaits an item goes on to complete its job in the queue, which for a
 * whole batch would block the event loop for milliseconds: this way the queue is busy with the first jobs while the next
 * ones are settled, and the next batch was sent to Postgres before.
 */
function inTurns(calls: readonly (() => void)[], first = 0): void {
  if (first >= calls.length) return;
  setImmediate(() => {
    const next = first + SETTLED_PER_TURN;
    for (const call of calls.slice(first, next)) call();
    inTurns(calls, next);
  });
}
