import type { BackendFactory, IQueueBackend } from 'bullmq';

export type BackendKind = 'redis' | 'postgres';

/** What BullMQ is given as `connection`. The backend's factory knows the connections themselves. */
export interface BackendReference {
  backend: BackendKind;
  /** Most jobs fetched with one command. */
  maxPrefetch: number;
}

/** Whether a backend can lose jobs that it has acknowledged. */
export type QueueDurability =
  | {
      known: true;
      /** `noeviction`, or what is evicted when the memory is full. */
      evictionPolicy: string;
      /** Whether every job is written to disk. Snapshots lose what came after the last one. */
      survivesRestart: boolean;
    }
  /** The backend does not permit the question. */
  | { known: false; reason: string };

/** Where the queues are stored, and how it is reached. */
export interface QueueBackend {
  readonly kind: BackendKind;
  readonly maxPrefetch: BackendReference['maxPrefetch'];
  /** Makes BullMQ's own backend over connections of this one. */
  readonly factory: BackendFactory<IQueueBackend, BackendReference>;
  /** Redis Cluster requires all keys of a queue on one node, which braces around the queue's name cause. */
  readonly hashTags: boolean;
  /** Resolves once commands can be sent. Rejects when the connection attempt in flight, or else the next one, fails. */
  ready(signal: AbortSignal): Promise<void>;
  /** @throws {SchemaOutdatedError} when BullMQ's tables are missing */
  assertMigrated(): Promise<void>;
  /** Resolves once the backend answers. Rejects with the backend's own error. */
  ping(): Promise<void>;
  /** As a consumer, waits for the answer while the backend is unreachable. */
  durability(): Promise<QueueDurability>;
  close(): Promise<void>;
}

/** How a process uses the queues: a producer fails fast while the backend is unreachable, a consumer waits. */
export type QueueRole = 'producer' | 'consumer';

/** Options of `openQueues`. */
export interface QueuesOptions {
  role: QueueRole;
  /** Called with every connection error. BullMQ and ioredis reconnect on their own. */
  onError: (error: Error) => void;
  /** Default `lessor`. Ignored by the Postgres backend. */
  prefix?: string | undefined;
}
