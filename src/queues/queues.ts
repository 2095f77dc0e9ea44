import { Queue, QueueEvents } from 'bullmq';
import type { IQueueBackend, Processor, QueueEventsOptions, QueueOptions, WorkerOptions } from 'bullmq';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { isPostgresUrl } from '../lib/postgres-url.ts';
import type { BackendReference, QueueBackend, QueueDurability, QueuesOptions } from './backends/backend.ts';
import { openPostgresBackend } from './backends/postgres.ts';
import { openRedisBackend } from './backends/redis.ts';
import { isRedisUrl } from './backends/redis-url.ts';
import { LessorWorker } from './bullmq-worker.ts';
import { DEFAULT_PREFIX } from './job-options.ts';
import type { QueueName } from './job-options.ts';

/** BullMQ's classes over either backend. The backend makes the connections, so `connection` only refers to it. */
export type LessorQueue = Queue<unknown, unknown, string, unknown, unknown, string, IQueueBackend, BackendReference>;
export type { LessorWorker };
export type LessorQueueEvents = QueueEvents<unknown, IQueueBackend, BackendReference>;

/** Opens Lessor's queues on one backend. The caller closes what it opened, and then the backend. */
export class Queues {
  readonly kind: QueueBackend['kind'];
  readonly #backend: QueueBackend;
  readonly #options: QueuesOptions;

  constructor(backend: QueueBackend, options: QueuesOptions) {
    this.kind = backend.kind;
    this.#backend = backend;
    this.#options = options;
  }

  queue(name: QueueName, options: Omit<QueueOptions<BackendReference>, 'connection' | 'prefix'> = {}): LessorQueue {
    const queue: LessorQueue = new Queue(this.#name(name), { ...options, ...this.#common() }, this.#backend.factory);
    return this.#withErrorListener(queue);
  }

  worker(
    name: QueueName,
    processor: Processor<unknown, unknown>,
    options: Omit<WorkerOptions<BackendReference>, 'connection' | 'prefix'>,
  ): LessorWorker {
    const worker = new LessorWorker(
      this.#name(name),
      processor,
      { ...options, ...this.#common() },
      this.#backend.factory,
    );
    return this.#withErrorListener(worker);
  }

  queueEvents(
    name: QueueName,
    options: Omit<QueueEventsOptions<BackendReference>, 'connection' | 'prefix'> = {},
  ): LessorQueueEvents {
    const events: LessorQueueEvents = new QueueEvents(
      this.#name(name),
      { ...options, ...this.#common() },
      this.#backend.factory,
    );
    return this.#withErrorListener(events);
  }

  /** Resolves once commands can be sent; rejects when connecting fails. */
  ready(signal: AbortSignal): Promise<void> {
    return this.#backend.ready(signal);
  }

  /** @throws {SchemaOutdatedError} when the queues are in Postgres and BullMQ's tables are missing there */
  assertMigrated(): Promise<void> {
    return this.#backend.assertMigrated();
  }

  /** Resolves once the backend answers. Rejects with the backend's own error. */
  ping(): Promise<void> {
    return this.#backend.ping();
  }

  /** Whether the backend can lose jobs. A consumer waits for the answer while the backend is unreachable. */
  durability(): Promise<QueueDurability> {
    return this.#backend.durability();
  }

  /** Closes the backend's connections. Close what was opened on it first. */
  close(): Promise<void> {
    return this.#backend.close();
  }

  #name(name: QueueName): string {
    return this.#backend.hashTags ? `{${name}}` : name;
  }

  #common(): { connection: BackendReference; prefix: string } {
    const { kind: backend, maxPrefetch } = this.#backend;
    return { connection: { backend, maxPrefetch }, prefix: this.#options.prefix ?? DEFAULT_PREFIX };
  }

  #withErrorListener<Opened extends { on(event: 'error', listener: (error: Error) => void): unknown }>(
    opened: Opened,
  ): Opened {
    opened.on('error', this.#options.onError);
    return opened;
  }
}

/**
 * Opens the queues of a `redis://`, `rediss://` or `postgres://` URL. Connections are opened when first needed.
 * @throws {InvalidConfigurationError} naming what in the URL is not understood
 */
export function openQueues(queueUrl: string, options: QueuesOptions): Queues {
  return new Queues(openBackend(queueUrl, options), options);
}

function openBackend(queueUrl: string, options: QueuesOptions): QueueBackend {
  if (isPostgresUrl(queueUrl)) return openPostgresBackend(queueUrl, options);
  if (isRedisUrl(queueUrl)) return openRedisBackend(queueUrl, options);
  throw new InvalidConfigurationError('the queue URL must start with redis://, rediss:// or postgres://');
}
