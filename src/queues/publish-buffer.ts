import { QueueUnreachableError } from '../contracts/index.ts';
import { backoffDelay } from '../lib/backoff.ts';
import type { BackoffPolicy } from '../lib/backoff.ts';
import { HeldMessage } from './held-message.ts';
import type { HeldMessageOptions } from './held-message.ts';
import { abortableSleep } from '../lib/abort.ts';

/** Messages of one run, of which one is under way at a time: they are published in the order in which they came. */
interface RunMessages {
  runId: string;
  messages: HeldMessage[];
  isUnderWay: boolean;
}

/** Shorter than those of a worker: somebody waits for each message. */
const PAUSES: BackoffPolicy = { initialMs: 100, maxMs: 1_000 };

/** Runs whose messages are sent at once when the queue is back. */
const RUNS_AT_ONCE = 100;

/**
 * Holds messages while the queue is away and publishes them when it is back. A message that finds the queue up passes
 * through at once. While it is away one message is tried now and then, and the others when that one was published.
 */
export class PublishBuffer {
  readonly #limit: number;
  readonly #runs = new Map<string, RunMessages>();
  readonly #held = new Set<HeldMessage>();
  readonly #closing = new AbortController();
  #isAway = false;

  /** @param limit most messages held at once */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /**
   * Resolves once the message is published.
   * @throws {QueueUnreachableError} when its time is over, too many are held already, or the buffer is closed
   */
  publish(runId: string, options: Omit<HeldMessageOptions, 'onSettled'>): Promise<void> {
    const run = this.#runs.get(runId) ?? { runId, messages: [], isUnderWay: false };
    const message = new HeldMessage({ ...options, onSettled: (settled) => this.#letGo(run, settled) });
    if (message.isSettled) return message.published;
    this.#runs.set(runId, run);
    run.messages.push(message);
    if (this.#isAway) this.#hold(message);
    else void this.#publishAll(run);
    return message.published;
  }

  /** Gives up what is held. */
  close(): void {
    this.#closing.abort();
    for (const message of this.#held) {
      message.giveUp(closedError());
    }
  }

  /** Publishes a run's messages one after the other. Resolves with whether the queue took them. */
  async #publishAll(run: RunMessages): Promise<boolean> {
    if (run.isUnderWay) return true;
    run.isUnderWay = true;
    for (let [next] = run.messages; next !== undefined; [next] = run.messages) {
      if (!(await next.attempt())) break;
    }
    run.isUnderWay = false;
    for (const message of run.messages) this.#hold(message);
    return run.messages.length === 0;
  }

  #letGo(run: RunMessages, message: HeldMessage): void {
    this.#held.delete(message);
    run.messages = run.messages.filter((other) => other !== message);
    if (run.messages.length === 0 && this.#runs.get(run.runId) === run) this.#runs.delete(run.runId);
  }

  #hold(message: HeldMessage): void {
    if (this.#held.has(message)) return;
    if (this.#closing.signal.aborted) {
      message.giveUp(closedError());
    } else if (this.#held.size >= this.#limit) {
      message.giveUp(new QueueUnreachableError(`${this.#limit} messages are held for it already, as many as may be`));
    } else {
      this.#held.add(message);
      if (!this.#isAway) void this.#untilBack();
    }
  }

  /** From the first message that is held until none is. */
  async #untilBack(): Promise<void> {
    const { signal } = this.#closing;
    for (let tries = 1; this.#runs.size > 0 && !signal.aborted; tries += 1) {
      this.#isAway = true;
      await abortableSleep(backoffDelay(tries, PAUSES), signal);
      const [first] = this.#runs.values();
      if (first !== undefined && (await this.#publishAll(first))) await this.#publishHeld();
    }
    this.#isAway = false;
  }

  /** Until all is published or the queue is away again. */
  async #publishHeld(): Promise<void> {
    for (;;) {
      const runs = [...this.#runs.values()].filter((run) => !run.isUnderWay).slice(0, RUNS_AT_ONCE);
      const published = await Promise.all(runs.map((run) => this.#publishAll(run)));
      if (runs.length === 0 || published.includes(false)) return;
    }
  }
}

const closedError = () => new QueueUnreachableError('the producer was closed before this message was published');
