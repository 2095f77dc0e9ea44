import { setTimeout as sleep } from 'node:timers/promises';
import { LeaseLostError, LeaseWaitTimeoutError, QueueUnreachableError } from '../src/contracts/index.ts';
import { createHeartbeatProducer } from '../src/producers/producer.ts';
import type { HeartbeatProducer } from '../src/producers/producer.ts';
import { Publisher } from '../src/queues/publisher.ts';
import { openQueues } from '../src/queues/queues.ts';
import type { Queues } from '../src/queues/queues.ts';
import { withTimeout } from '../src/lib/abort.ts';
import { messageOf } from '../src/lib/errors.ts';
import type { Message } from './plan.ts';

const PUBLISH_TIMEOUT_MS = 5_000;

/** Between two attempts to publish a message. */
const RETRY_DELAY_MS = 100;

/** A heartbeat service that publishes each message again until the queue has accepted it. */
export class HeartbeatClient {
  /** Messages that were published, copies included. */
  messages = 0;
  /** Failed attempts to publish. Their messages may have reached the queue all the same. */
  failedAttempts = 0;
  readonly #signal: AbortSignal;
  readonly #producer: HeartbeatProducer;
  readonly #foreignQueues: Queues;
  readonly #foreign: Publisher;

  constructor(queueUrl: string, signal: AbortSignal) {
    this.#signal = signal;
    this.#producer = createHeartbeatProducer({ queueUrl, publishTimeoutMs: PUBLISH_TIMEOUT_MS });
    // Each attempt to publish reports its own error.
    this.#foreignQueues = openQueues(queueUrl, { role: 'producer', onError: () => undefined });
    this.#foreign = new Publisher(this.#foreignQueues, PUBLISH_TIMEOUT_MS);
  }

  /** Publishes through the package. */
  publish(message: Message): Promise<void> {
    return this.#untilPublished(() => this.#send(message));
  }

  /** Publishes as a non-Node client does: past the package, with no option but the job's id. */
  publishForeign({ queue: name, payload }: Message, jobId: string): Promise<void> {
    return this.#untilPublished(async () => {
      try {
        await withTimeout(PUBLISH_TIMEOUT_MS, async (signal) => {
          const queue = await this.#foreign.queue(name, signal);
          await queue.add(name, payload, { jobId });
        });
      } catch (error) {
        throw new QueueUnreachableError(messageOf(error), { cause: error });
      }
    });
  }

  /** Resolves once the run has been granted its lease, even one that has expired since. */
  async awaitLease(runId: string): Promise<void> {
    for (;;) {
      try {
        await this.#producer.waitForLease(runId, { signal: this.#signal });
        return;
      } catch (error) {
        this.#signal.throwIfAborted();
        if (error instanceof LeaseLostError) return;
        if (!(error instanceof LeaseWaitTimeoutError || error instanceof QueueUnreachableError)) throw error;
      }
    }
  }

  async close(): Promise<void> {
    await this.#producer.close();
    await this.#foreign.close();
    await this.#foreignQueues.close();
  }

  async #untilPublished(attempt: () => Promise<unknown>): Promise<void> {
    for (;;) {
      this.#signal.throwIfAborted();
      try {
        await attempt();
        this.messages += 1;
        return;
      } catch (error) {
        if (!(error instanceof QueueUnreachableError)) throw error;
        this.failedAttempts += 1;
      }
      await sleep(RETRY_DELAY_MS, undefined, { signal: this.#signal });
    }
  }

  #send({ queue, payload }: Message): Promise<unknown> {
    if (queue === 'run-started') return this.#producer.runStarted(payload);
    if (queue === 'run-finished') return this.#producer.runFinished(payload);
    return this.#producer.runHeartbeat(payload);
  }
}
