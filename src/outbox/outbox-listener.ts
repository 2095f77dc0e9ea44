import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { OUTBOX_CHANNEL } from '../db/statements/outbox.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';
import { abortableSleep } from '../lib/abort.ts';
import { toClientConfig } from '../lib/postgres-client.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';
import { toError } from '../lib/errors.ts';

/** Where to listen, and what to call. */
export interface OutboxListenerOptions {
  databaseUrl: string;
  /** Name that `pg_stat_activity` shows. */
  applicationName: string;
  /** Called when a transaction that wrote to the outbox has committed, or may have while the connection was lost. */
  onWritten(): void;
  /** Called when the connection is lost or cannot be opened. It is retried indefinitely. */
  onError(error: Error): void;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** TCP keep-alive probes start after this idle time. */
const KEEP_ALIVE_AFTER_MS = 10_000;

/** Graceful close timeout, after which the socket is destroyed. */
const CLOSE_TIMEOUT_MS = 500;

/**
 * Listens for committed outbox jobs with LISTEN on a connection of its own. Jobs missed while the connection is lost are
 * found by polling, so the listener may fail without consequences.
 */
export class OutboxListener {
  readonly #options: OutboxListenerOptions;
  readonly #stopping = new AbortController();
  readonly #listening: Promise<void>;

  constructor(options: OutboxListenerOptions) {
    this.#options = options;
    this.#listening = this.#listen();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#listening;
  }

  async #listen(): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    const onListening = () => {
      failures = 0;
      this.#options.onWritten();
    };
    while (!signal.aborted) {
      try {
        await this.#untilLost(onListening);
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#options.onError(toError(error));
        await abortableSleep(backoffDelay(failures, RECONNECT_BACKOFF), signal);
      }
    }
  }

  /** Listens until it is closed. Rejects when the connection is lost or cannot be made. */
  async #untilLost(onListening: () => void): Promise<void> {
    const { signal } = this.#stopping;
    const client = new Client({
      application_name: this.#options.applicationName,
      ...toClientConfig(parsePostgresUrl(this.#options.databaseUrl)),
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
    });
    const attempt = new AbortController();
    const over = new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => resolve(), { once: true, signal: attempt.signal });
      client.on('error', reject);
      // Before that, `connect` rejects with the reason.
      client.once('connect', () => {
        client.on('end', () => reject(new Error('the connection that listens to the outbox was closed')));
      });
    });
    client.on('notification', () => this.#options.onWritten());
    const listening = client.connect().then(() => client.query(`listen ${OUTBOX_CHANNEL}`));
    try {
      await Promise.race([listening.then(onListening), over]);
      await over;
    } finally {
      attempt.abort();
      await disconnect(client);
    }
  }
}

async function disconnect(client: Client): Promise<void> {
  const ended = client.end();
  const isEnded = await Promise.race([ended.then(() => true), sleep(CLOSE_TIMEOUT_MS, false, { ref: false })]);
  if (!isEnded) client.connection.stream.destroy();
}
