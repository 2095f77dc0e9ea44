import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { OUTBOX_CHANNEL } from '../db/statements/outbox.ts';
import { RECONNECT_BACKOFF, backoffDelay } from '../lib/backoff.ts';
import { abortableSleep } from '../lib/abort.ts';
import { toClientConfig } from '../lib/postgres-client.ts';
import { parsePostgresUrl } from '../lib/postgres-url.ts';
import { toError } from '../lib/errors.ts';

/** How the outbox is listened to. */
export interface OutboxListenerOptions {
  databaseUrl: string;
  /** Name that `pg_stat_activity` shows. */
  applicationName: string;
  /** Called when a transaction that wrote into the outbox has committed, or may have while nobody listened. */
  onWritten(): void;
  /** Told of each connection that was lost or could not be made. It is made anew, for ever. */
  onTrouble(error: Error): void;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** A connection that is silent for so long is asked by TCP whether it still stands. */
const KEEP_ALIVE_AFTER_MS = 10_000;

/** How long a server may take over a goodbye before it is cut off. */
const GOODBYE_MS = 500;

/**
 * Hears of jobs in the outbox at once, on a connection of its own. What it misses while the connection is away is found
 * by polling, so it may fail and must never fail anybody else.
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
        this.#options.onTrouble(toError(error));
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
  const isEnded = await Promise.race([ended.then(() => true), sleep(GOODBYE_MS, false, { ref: false })]);
  if (!isEnded) client.connection.stream.destroy();
}
