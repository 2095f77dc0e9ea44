import type { Db } from '../db/connection.ts';
import { Publisher } from '../queues/publisher.ts';
import { openQueues } from '../queues/queues.ts';
import { withTimeout } from '../lib/abort.ts';
import { OutboxListener } from './outbox-listener.ts';
import { OutboxRelay } from './relay.ts';

/** Where a replica's relay reads and publishes jobs, and how it reports errors. */
export interface OpenRelayOptions {
  databaseUrl: string;
  queueUrl: string;
  prefix?: string | undefined;
  /** The name of the replica. */
  replica: string;
  outboxPollIntervalMs: number;
  onError: (error: Error) => void;
  onUnpublishable: (error: Error) => void;
}

/** A running relay with its listener and connections. */
export interface OpenedRelay {
  close(): Promise<void>;
}

/** The longest that a queue that does not answer keeps a transaction open. */
const PUBLISH_TIMEOUT_MS = 5_000;

/** A live relay's transaction is idle only while it publishes; thrice that allows for a busy machine. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 3 * PUBLISH_TIMEOUT_MS;

/**
 * Starts to relay the outbox, with one connection of `db` at a time and one of its own for LISTEN. Neither Postgres nor the
 * queue need be reachable yet.
 */
export function openOutboxRelay(db: Db, options: OpenRelayOptions): OpenedRelay {
  const { databaseUrl, queueUrl, prefix, replica, outboxPollIntervalMs, onError, onUnpublishable } = options;
  // A producer's commands fail while the queue is unreachable; a consumer's would wait inside the transaction.
  const queues = openQueues(queueUrl, {
    role: 'producer',
    prefix,
    // The round that needs a lost connection reports it.
    onError: () => undefined,
  });
  const publisher = new Publisher(queues, PUBLISH_TIMEOUT_MS);
  const relay = new OutboxRelay({
    db,
    publisher,
    pingQueue: () => withTimeout(PUBLISH_TIMEOUT_MS, () => queues.ping()),
    idleInTransactionTimeoutMs: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    pollIntervalMs: outboxPollIntervalMs,
    onError,
    onUnpublishable,
  });
  const listener = new OutboxListener({
    databaseUrl,
    applicationName: `lessor outbox ${replica}`,
    onWritten: () => relay.wake(),
    onError,
  });
  return {
    async close() {
      await Promise.all([relay.close(), listener.close()]);
      await publisher.close();
      await queues.close();
    },
  };
}
