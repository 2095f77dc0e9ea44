import type { Db } from '../db/connection.ts';
import { Publisher } from '../queues/publisher.ts';
import { openQueues } from '../queues/queues.ts';
import { withTimeout } from '../lib/abort.ts';
import { OutboxListener } from './outbox-listener.ts';
import { OutboxRelay } from './relay.ts';

/** Where a replica's relay finds its jobs, where it publishes them, and whom it tells of trouble. */
export interface OpenRelayOptions {
  databaseUrl: string;
  queueUrl: string;
  prefix?: string | undefined;
  /** The name of the replica. */
  replica: string;
  outboxPollIntervalMs: number;
  onTrouble: (error: Error) => void;
  onUnpublishable: (error: Error) => void;
}

/** A relay with all that belongs to it. */
export interface OpenedRelay {
  close(): Promise<void>;
}

/** How long a transaction may be kept open by a queue that does not answer. */
const PUBLISH_TIMEOUT_MS = 5_000;

/** A relay that lives is silent while it publishes, and no longer: with room for a busy machine. */
const SILENCE_LIMIT_MS = 3 * PUBLISH_TIMEOUT_MS;

/**
 * Starts to relay the outbox, using one connection of `db` at a time and one of its own to listen. Neither store need be
 * there yet.
 */
export function openOutboxRelay(db: Db, options: OpenRelayOptions): OpenedRelay {
  const { databaseUrl, queueUrl, prefix, replica, outboxPollIntervalMs, onTrouble, onUnpublishable } = options;
  // As a producer: its commands fail while the queue is away, where a consumer's would wait within the transaction.
  const queues = openQueues(queueUrl, {
    role: 'producer',
    prefix,
    // A connection that is lost is told by the round that needs it.
    onError: () => undefined,
  });
  const publisher = new Publisher(queues, PUBLISH_TIMEOUT_MS);
  const relay = new OutboxRelay({
    db,
    publisher,
    pingQueue: () => withTimeout(PUBLISH_TIMEOUT_MS, () => queues.ping()),
    silenceLimitMs: SILENCE_LIMIT_MS,
    pollIntervalMs: outboxPollIntervalMs,
    onTrouble,
    onUnpublishable,
  });
  const listener = new OutboxListener({
    databaseUrl,
    applicationName: `lessor outbox ${replica}`,
    onWritten: () => relay.wake(),
    onTrouble,
  });
  return {
    async close() {
      await Promise.all([relay.close(), listener.close()]);
      await publisher.close();
      await queues.close();
    },
  };
}
