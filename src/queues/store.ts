import type { BackendFactory, IQueueBackend } from 'bullmq';

/** What BullMQ is given for a connection: which store it is on. The factory knows the connections themselves. */
export interface StoreReference {
  store: 'redis' | 'postgres';
  /** How many jobs can be asked for with one command. */
  jobsAtOnce: number;
}

/** What a store says about losing jobs that it has acknowledged. */
export type QueueDurability =
  | {
      known: true;
      /** `noeviction`, or what is thrown away when the memory is full. */
      evictionPolicy: string;
      /** Whether every job is written to the disk; snapshots lose what came after the last one. */
      survivesRestart: boolean;
    }
  /** The store does not tell. */
  | { known: false; reason: string };

/** What a store of queues is to the rest of Lessor. */
export interface QueueStore {
  readonly kind: StoreReference['store'];
  readonly jobsAtOnce: StoreReference['jobsAtOnce'];
  /** Builds BullMQ's own backend over connections of this store. */
  readonly factory: BackendFactory<IQueueBackend, StoreReference>;
  /** Redis Cluster needs all keys of a queue on one node, which braces around its name bring about. */
  readonly hashTags: boolean;
  /**
   * Resolves once commands can be sent: at once while the connection stands. Rejects when the attempt to connect that
   * is under way, or the next one, fails.
   */
  ready(signal: AbortSignal): Promise<void>;
  /** @throws {SchemaOutdatedError} when the store lacks BullMQ's tables */
  assertMigrated(): Promise<void>;
  /** Resolves once the store answers. Rejects with the store's own error. */
  ping(): Promise<void>;
  /** What the store says about losing jobs. A consumer waits for the answer as long as the store is away. */
  durability(): Promise<QueueDurability>;
  close(): Promise<void>;
}

/** How a process uses the queues: a producer fails fast while the store is away, a consumer waits for it. */
export type QueueRole = 'producer' | 'consumer';

/** Options of `openQueues`. */
export interface QueuesOptions {
  role: QueueRole;
  /** Called with every connection error: BullMQ and ioredis repair connections by themselves. */
  onError: (error: Error) => void;
  /** Default `lessor`. Ignored by the Postgres backend. */
  prefix?: string | undefined;
}
