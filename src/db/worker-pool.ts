import { setTimeout as sleep } from 'node:timers/promises';
import { drizzle } from 'drizzle-orm/node-postgres';
import { Pool } from 'pg';
import type { PoolClient, QueryConfig, QueryResult } from 'pg';
import type { PrecompiledStatement } from './precompiled-statement.ts';
import type { DbOptions, DbPool, Transaction } from './connection.ts';
import { Pipeline } from './pipeline.ts';
import type { PreparedStatement } from './pipeline.ts';
import { kindOfSqlError } from './sql-errors.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_SECONDS = 2;

/**
 * A transaction takes milliseconds, and what keeps it waiting is another one. What takes longer than this has met a
 * connection on which nothing arrives any more, which TCP may not notice for hours: it is dropped. Jobs that wait for
 * it spend no attempt.
 */
const TRANSACTION_TIMEOUT_MS = 20_000;

/** Postgres gives up first where it can, so that no session of its own is left waiting for a lock that nobody wants. */
const STATEMENT_TIMEOUT_MS = 15_000;

/**
 * A process that was stopped or cut off in the midst of a transaction holds the locks of its companies until Postgres
 * ends its session. Between two statements lie milliseconds; and whoever takes over its jobs, after a lock duration of
 * 15 seconds, is not to be kept waiting.
 */
const SILENT_TRANSACTION_TIMEOUT_MS = 10_000;

/**
 * A statement is planned once a connection: to plan one costs more than to carry it out for a single run. That may be
 * while the tables are all but empty, and what is right then, to read them from end to end, would be done until they are
 * analyzed, however large they have become.
 */
const PLAN_ONCE = 'set plan_cache_mode = force_generic_plan; set enable_seqscan = off';

/** A transaction was given up, as nothing arrived: Node's code for it makes it an outage. */
class TransactionTimeoutError extends Error {
  override readonly name = 'TransactionTimeoutError';
  readonly code = 'ETIMEDOUT';

  constructor(cause: unknown) {
    super(`Postgres has not answered within ${TRANSACTION_TIMEOUT_MS} ms`, { cause });
  }
}

/** A pool of a worker's connections. */
export interface WorkerPool extends DbPool {
  /**
   * Carries out statements as one transaction that is sent in one go, and returns the rows of each. No statement can
   * go by the rows of another, but nothing waits on the way: neither the transaction, nor who waits for its locks.
   */
  pipeline(statements: readonly PrecompiledStatement[]): Promise<unknown[][]>;
}

/**
 * Connections of a worker, by node-postgres: it gives an error for a connection that is cut in the middle of a
 * transaction, where postgres.js 3.4.9 throws one that nothing can catch, and the process ends
 * (porsager/postgres issues 1066 and 1154).
 *
 * Each statement is prepared once a connection: planning them took a fifth of the time of a batch.
 */
export function openWorkerPool(url: string, options: DbOptions = {}): WorkerPool {
  const pool = new Pool({
    connectionString: url,
    max: options.maximumConnections ?? 10,
    application_name: options.applicationName ?? 'lessor',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    // The pool waits for what it returns, and refuses the connection if that fails; its types know only of void.
    onConnect: (client): unknown => client.query(PLAN_ONCE),
    query_timeout: TRANSACTION_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: SILENT_TRANSACTION_TIMEOUT_MS,
  });
  const inUse = new Set<PoolClient>();
  pool.on('acquire', (client) => inUse.add(client));
  pool.on('release', (_error, client) => inUse.delete(client));
  // A connection that is lost also rejects what runs on it, which is where it is told; the pool makes a new one.
  pool.on('error', () => undefined);
  const preparedOn = new WeakMap<PoolClient, Map<string, PreparedStatement>>();
  pool.on('connect', (client) => {
    client.on('error', () => undefined);
    preparedOn.set(client, new Map());
  });
  const names = new StatementNames();

  /** A connection is given back also when it was lost before its transaction had begun. */
  const withConnection = async <Result>(work: (client: PoolClient) => Promise<Result>): Promise<Result> => {
    const client = await pool.connect();
    let isLate = false;
    let isUsable = true;
    const deadline = setTimeout(() => {
      isLate = true;
      destroy(client);
    }, TRANSACTION_TIMEOUT_MS);
    try {
      return await work(client);
    } catch (error) {
      isUsable = kindOfSqlError(error) !== 'unreachable';
      throw isLate ? new TransactionTimeoutError(error) : error;
    } finally {
      clearTimeout(deadline);
      // What Postgres says of its own state can be true of the session only, such as that it may read only.
      client.release(!isUsable);
    }
  };

  const transaction = <Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result> =>
    withConnection((client) => drizzle(new PreparingClient(client, names) as unknown as PoolClient).transaction(work));

  const pipeline = (statements: readonly PrecompiledStatement[]): Promise<unknown[][]> =>
    withConnection((client) => client.query(new Pipeline(statements, preparedOn.get(client)!)).rows);

  const close = async (timeoutSeconds = CLOSE_TIMEOUT_SECONDS): Promise<void> => {
    const ended = pool.end();
    await Promise.race([ended, sleep(timeoutSeconds * 1_000, undefined, { ref: false })]);
    // Whatever still waits for an answer is cut off.
    for (const client of inUse) destroy(client);
    await ended;
  };

  return Object.assign(drizzle(pool), { transaction, pipeline, close });
}

/** Prepares what is executed through it, under its name. */
class PreparingClient {
  readonly #client: PoolClient;
  readonly #names: StatementNames;

  constructor(client: PoolClient, names: StatementNames) {
    this.#client = client;
    this.#names = names;
  }

  query(config: QueryConfig, values: unknown[]): Promise<QueryResult> {
    return this.#client.query({ ...config, name: this.#names.of(config.text) }, values);
  }
}

/** Names by which statements are prepared, one for each text. */
class StatementNames {
  readonly #names = new Map<string, string>();

  of(text: string): string {
    const name = this.#names.get(text) ?? `lessor_${this.#names.size + 1}`;
    this.#names.set(text, name);
    return name;
  }
}

/** Ends a connection at once, so that what waits for an answer on it is rejected. */
function destroy(client: PoolClient): void {
  client.connection.stream.destroy();
}
