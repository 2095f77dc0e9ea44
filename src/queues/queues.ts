import { Queue, QueueEvents } from 'bullmq';
import type { IQueueBackend, Processor, QueueEventsOptions, QueueOptions, WorkerOptions } from 'bullmq';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { isPostgresUrl } from '../lib/postgres-url.ts';
import { BacklogWorker } from './backlog-worker.ts';
import { DEFAULT_PREFIX } from './names.ts';
import type { QueueName } from './names.ts';
import { openPostgresStore } from './postgres-store.ts';
import { openRedisStore } from './redis-store.ts';
import type { QueueDurability, QueuesOptions, QueueStore, StoreReference } from './store.ts';

/** BullMQ's classes over either backend: the connection is the backend's business, not an option. */
export type LessorQueue = Queue<unknown, unknown, string, unknown, unknown, string, IQueueBackend, StoreReference>;
export type LessorWorker = BacklogWorker;
export type LessorQueueEvents = QueueEvents<unknown, IQueueBackend, StoreReference>;

/** Opens Lessor's queues on the store that a URL names. What it opens, its caller closes, and then the store. */
export class Queues {
  readonly kind: QueueStore['kind'];
  readonly #store: QueueStore;
  readonly #options: QueuesOptions;

  constructor(store: QueueStore, options: QueuesOptions) {
    this.kind = store.kind;
    this.#store = store;
    this.#options = options;
  }

  queue(name: QueueName, options: Omit<QueueOptions<StoreReference>, 'connection' | 'prefix'> = {}): LessorQueue {
    const queue: LessorQueue = new Queue(this.#name(name), { ...options, ...this.#common() }, this.#store.factory);
    return this.#watched(queue);
  }

  worker(
    name: QueueName,
    processor: Processor<unknown, unknown>,
    options: Omit<WorkerOptions<StoreReference>, 'connection' | 'prefix'>,
  ): LessorWorker {
    const worker: LessorWorker = new BacklogWorker(
      this.#name(name),
      processor,
      { ...options, ...this.#common() },
      this.#store.factory,
    );
    return this.#watched(worker);
  }

  queueEvents(
    name: QueueName,
    options: Omit<QueueEventsOptions<StoreReference>, 'connection' | 'prefix'> = {},
  ): LessorQueueEvents {
    const events: LessorQueueEvents = new QueueEvents(
      this.#name(name),
      { ...options, ...this.#common() },
      this.#store.factory,
    );
    return this.#watched(events);
  }

  /** Resolves once commands can be sent; rejects when connecting fails. */
  ready(signal: AbortSignal): Promise<void> {
    return this.#store.ready(signal);
  }

  /** @throws {SchemaOutdatedError} when the queues live in Postgres and BullMQ's tables are missing there */
  assertMigrated(): Promise<void> {
    return this.#store.assertMigrated();
  }

  /** Resolves once the store answers. Rejects with the store's own error. */
  ping(): Promise<void> {
    return this.#store.ping();
  }

  /** What the store says about losing jobs. A consumer waits for the answer as long as the store is away. */
  durability(): Promise<QueueDurability> {
    return this.#store.durability();
  }

  /** Closes the store's connections. Close what was opened on it first. */
  close(): Promise<void> {
    return this.#store.close();
  }

  #name(name: QueueName): string {
    return this.#store.hashTags ? `{${name}}` : name;
  }

  #common(): { connection: StoreReference; prefix: string } {
    const { kind: store, jobsAtOnce } = this.#store;
    return { connection: { store, jobsAtOnce }, prefix: this.#options.prefix ?? DEFAULT_PREFIX };
  }

  #watched<Opened extends { on(event: 'error', listener: (error: Error) => void): unknown }>(opened: Opened): Opened {
    opened.on('error', this.#options.onError);
    return opened;
  }
}

/**
 * Opens the queues of `redis://`, `rediss://` or `postgres://`. Connections are made when first needed.
 * @throws {InvalidConfigurationError} when the URL names neither
 */
export function openQueues(queueUrl: string, options: QueuesOptions): Queues {
  if (isPostgresUrl(queueUrl)) return new Queues(openPostgresStore(queueUrl, options), options);
  const url = parseUrl(queueUrl);
  switch (url.protocol) {
    case 'redis:':
    case 'rediss:':
      return new Queues(openRedisStore(url, options), options);
    default:
      throw new InvalidConfigurationError(
        `the queue URL starts with ${url.protocol}//, but must start with redis://, rediss:// or postgres://`,
      );
  }
}

function parseUrl(text: string): URL {
  if (URL.canParse(text)) return new URL(text);
  throw new InvalidConfigurationError('the queue URL is not a URL; it looks like redis://host:6379 or postgres://…');
}
