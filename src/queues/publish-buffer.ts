import { QueueUnreachableError } from '../contracts/index.ts';
import { abortableSleep } from '../lib/abort.ts';
import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';

/** A message to publish, and for how long. */
export interface BufferedMessageOptions {
  /** Publishes the message unless the signal is aborted. A {@link QueueUnreachableError} is retried. */
  send(signal: AbortSignal): Promise<void>;
  /** How long the message may be buffered, in milliseconds. */
  maxBufferMs: number;
  /** Aborted when the caller no longer waits. */
  signal?: AbortSignal | undefined;
}

/** Messages of one run. One of them is in flight at a time, which keeps their order. */
interface RunMessages {
  runId: string;
  messages: BufferedMessage[];
  isPublishing: boolean;
}

/** Shorter than a worker's: a caller waits for each message. */
const PROBE_BACKOFF: BackoffPolicy = { initialMs: 100, maxMs: 1_000 };

/** Runs published concurrently when the queue is back. */
const FLUSH_CONCURRENCY = 100;

/**
 * Buffers messages while the queue is unreachable:
 *
 * - **Pass-through**: a message is sent immediately. If the queue cannot be reached, the message is buffered and the
 *   buffer starts probing.
 * - **Probing**: new messages are buffered. The first run's messages are tried with exponential backoff.
 * - **Flushing**: a probe was published, so all runs are published, 100 concurrently. The first failure returns to
 *   probing; an empty buffer returns to pass-through.
 *
 * In each of them a message whose `maxBufferMs` has passed, or whose signal was aborted, is removed and rejected.
 */
export class PublishBuffer {
  readonly #limit: number;
  readonly #runs = new Map<string, RunMessages>();
  readonly #buffered = new Set<BufferedMessage>();
  readonly #closing = new AbortController();
  #isQueueUnreachable = false;

  /** @param limit most messages buffered */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /**
   * Resolves once the message is published.
   * @throws {QueueUnreachableError} when its time has passed, the buffer is full, or the buffer is closed
   */
  publish(runId: string, options: BufferedMessageOptions): Promise<void> {
    const run = this.#runs.get(runId) ?? { runId, messages: [], isPublishing: false };
    const message = new BufferedMessage(options, (settled) => this.#remove(run, settled));
    if (message.isSettled) return message.published;
    this.#runs.set(runId, run);
    run.messages.push(message);
    if (this.#isQueueUnreachable) this.#buffer(message);
    else void this.#publishRun(run);
    return message.published;
  }

  /** Rejects what is buffered. */
  close(): void {
    this.#closing.abort();
    for (const message of this.#buffered) {
      message.reject(closedError());
    }
  }

  /** Publishes a run's messages in order. Resolves to whether the queue could be reached. */
  async #publishRun(run: RunMessages): Promise<boolean> {
    if (run.isPublishing) return true;
    run.isPublishing = true;
    for (let [next] = run.messages; next !== undefined; [next] = run.messages) {
      if (!(await next.attempt())) break;
    }
    run.isPublishing = false;
    for (const message of run.messages) this.#buffer(message);
    return run.messages.length === 0;
  }

  #remove(run: RunMessages, message: BufferedMessage): void {
    this.#buffered.delete(message);
    run.messages = run.messages.filter((other) => other !== message);
    if (run.messages.length === 0 && this.#runs.get(run.runId) === run) this.#runs.delete(run.runId);
  }

  #buffer(message: BufferedMessage): void {
    if (this.#buffered.has(message)) return;
    if (this.#closing.signal.aborted) {
      message.reject(closedError());
    } else if (this.#buffered.size >= this.#limit) {
      message.reject(new QueueUnreachableError(`the buffer is full with ${this.#limit} messages`));
    } else {
      this.#buffered.add(message);
      if (!this.#isQueueUnreachable) void this.#probeUntilEmpty();
    }
  }

  async #probeUntilEmpty(): Promise<void> {
    const { signal } = this.#closing;
    for (let probes = 1; this.#runs.size > 0 && !signal.aborted; probes += 1) {
      this.#isQueueUnreachable = true;
      await abortableSleep(backoffDelay(probes, PROBE_BACKOFF), signal);
      const [first] = this.#runs.values();
      if (first !== undefined && (await this.#publishRun(first))) await this.#flush();
    }
    this.#isQueueUnreachable = false;
  }

  async #flush(): Promise<void> {
    for (;;) {
      const runs = [...this.#runs.values()].filter((run) => !run.isPublishing).slice(0, FLUSH_CONCURRENCY);
      const published = await Promise.all(runs.map((run) => this.#publishRun(run)));
      if (runs.length === 0 || published.includes(false)) return;
    }
  }
}

/** A message that is retried until it is published or rejected. */
class BufferedMessage {
  readonly published: Promise<void>;
  readonly #options: BufferedMessageOptions;
  readonly #onSettled: (message: BufferedMessage) => void;
  readonly #rejected = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #promise: { resolve(): void; reject(error: unknown): void } | undefined;
  #lastError: QueueUnreachableError | undefined;

  constructor(options: BufferedMessageOptions, onSettled: (message: BufferedMessage) => void) {
    this.#options = options;
    this.#onSettled = onSettled;
    this.published = new Promise((resolve, reject) => (this.#promise = { resolve, reject }));
    this.#timer = setTimeout(() => this.reject(this.#timeoutError()), options.maxBufferMs);
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  get isSettled(): boolean {
    return this.#promise === undefined;
  }

  /** One attempt. Resolves to whether the message is settled: published or rejected. */
  async attempt(): Promise<boolean> {
    if (this.isSettled) return true;
    try {
      await this.#options.send(this.#rejected.signal);
      this.#settle()?.resolve();
    } catch (error) {
      if (error instanceof QueueUnreachableError) this.#lastError = error;
      else this.reject(error);
    }
    return this.isSettled;
  }

  reject(error: unknown): void {
    this.#settle()?.reject(error);
    this.#rejected.abort(error);
  }

  readonly #onAbort = (): void => this.reject(this.#options.signal?.reason);

  /** The promise's functions for the first call, which settles the message; undefined for later ones. */
  #settle(): { resolve(): void; reject(error: unknown): void } | undefined {
    const promise = this.#promise;
    if (promise === undefined) return undefined;
    this.#promise = undefined;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#onSettled(this);
    return promise;
  }

  #timeoutError(): QueueUnreachableError {
    const cause = this.#lastError?.cause;
    const reason = cause instanceof Error && cause.message !== '' ? cause.message : 'no answer';
    const detail = `${reason}, for the ${this.#options.maxBufferMs} ms that this message was buffered`;
    return new QueueUnreachableError(detail, { cause: this.#lastError });
  }
}

const closedError = () => new QueueUnreachableError('the producer was closed before this message was published');
