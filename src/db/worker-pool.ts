import { drizzle } from 'drizzle-orm/node-postgres';
import type { PoolClient, QueryConfig, QueryResult } from 'pg';
import type { DbOptions, DbPool } from './connection.ts';
import { Pipeline, statementName } from './pipeline.ts';
import type { DescribedStatements, PrecompiledStatement } from './pipeline.ts';
import { ConnectionPool } from './pool.ts';

/**
 * A transaction takes milliseconds, and what keeps it waiting is another one. One that takes longer than this is on a
 * connection on which nothing arrives any more, which TCP may not notice for hours: it is destroyed. Its jobs are tried
 * again, which does not count as an attempt.
 */
const TRANSACTION_TIMEOUT_MS = 20_000;

/** Shorter, so that Postgres gives up first where it can and no session keeps waiting for a lock that nobody wants. */
const STATEMENT_TIMEOUT_MS = 15_000;

/**
 * A process that is stopped or loses its network in the middle of a transaction holds the locks of its companies until Postgres
 * ends its session. Its jobs are recovered by another replica after a lock duration of 15 s, which must not wait for
 * those locks; a healthy transaction has milliseconds between its statements.
 */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000;

/**
 * Statements are planned once per connection: planning one costs more than executing it for a single run. Tables can be
 * all but empty at that time, and a sequential scan, the best plan then, would be kept however large they become.
 */
const PLANNER_SETTINGS = { plan_cache_mode: 'force_generic_plan', enable_seqscan: 'off' };

/** A pool of a worker's connections. */
export interface WorkerPool extends DbPool {
  /**
   * Executes statements as one pipelined transaction and returns the rows of each. No statement can depend on the rows
   * of another, but there is one round trip: neither the transaction nor who waits for its locks waits for the network.
   */
  pipeline(statements: readonly PrecompiledStatement[]): Promise<unknown[][]>;
}

/**
 * Opens the connections of a worker. Each statement is prepared once per connection: planning took a fifth of a batch's
 * time.
 * @throws {InvalidConfigurationError} when the URL is not understood
 */
export function openWorkerPool(url: string, options: DbOptions = {}): WorkerPool {
  const connections = new ConnectionPool(url, {
    maximumConnections: options.maximumConnections ?? 10,
    applicationName: options.applicationName ?? 'lessor',
    session: PLANNER_SETTINGS,
    useTimeoutMs: TRANSACTION_TIMEOUT_MS,
    query_timeout: TRANSACTION_TIMEOUT_MS,
    // As startup parameters, which a pooler that does not keep sessions rejects: it cannot serve a worker.
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
  });
  const described = new WeakMap<PoolClient, DescribedStatements>();
  connections.pool.on('connect', (client) => described.set(client, new Map()));

  const transaction: DbPool['transaction'] = (work, config) =>
    connections.withConnection((client) =>
      drizzle(new PreparingClient(client) as unknown as PoolClient).transaction(work, config),
    );

  const pipeline = (statements: readonly PrecompiledStatement[]): Promise<unknown[][]> =>
    connections.withConnection((client) => client.query(new Pipeline(statements, described.get(client)!)).rows);

  const close = (timeoutSeconds?: number) => connections.close(timeoutSeconds);

  return Object.assign(drizzle(connections.pool), { transaction, pipeline, close });
}

/** Prepares what is executed through it. */
class PreparingClient {
  readonly #client: PoolClient;

  constructor(client: PoolClient) {
    this.#client = client;
  }

  query(config: QueryConfig, values: unknown[]): Promise<QueryResult> {
    return this.#client.query({ ...config, name: statementName(config.text) }, values);
  }
}
