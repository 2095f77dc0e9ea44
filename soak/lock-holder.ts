import { Client } from 'pg';
import { abortableSleep } from '../src/lib/abort.ts';
import type { Random } from './random.ts';

/** The query of each table selects the row to lock; its parameter is the seed of the choice. */
const CANDIDATES = {
  companies: `
    select id, id as company_id from lessor.companies
    order by hashtextextended(id::text, $1) limit 1`,
  heartbeat_runs: `
    select id, company_id from lessor.heartbeat_runs where status = 'running'
    order by hashtextextended(id::text, $1) limit 1`,
  environment_leases: `
    select id, company_id from lessor.environment_leases where status = 'active'
    order by hashtextextended(id::text, $1) limit 1`,
} as const;
const TABLES = Object.keys(CANDIDATES) as (keyof typeof CANDIDATES)[];

/** Before the next attempt when there is no row to lock yet, or Postgres is unreachable. */
const RETRY_DELAY_MS = 200;

/** A row that a session held, in milliseconds of `performance.now()`. */
export interface Hold {
  readonly table: keyof typeof CANDIDATES;
  readonly companyId: string;
  readonly from: number;
  /** Infinity while it lasts. */
  to: number;
}

/** Options of a {@link LockHolder}. */
export interface LockHolderOptions {
  databaseUrl: string;
  random: Random;
  /** How long each row is held. */
  durationMs: { from: number; to: number };
  /** Ends the current hold too. */
  signal: AbortSignal;
}

/**
 * A session that locks a random company, run or lease, one at a time, and then does nothing, as a service's long
 * transaction or an operator's psql does.
 */
export class LockHolder {
  readonly holds: Hold[] = [];
  /** Resolves once the signal is aborted and no row is held. */
  readonly stopped: Promise<void>;
  readonly #options: LockHolderOptions;

  constructor(options: LockHolderOptions) {
    this.#options = options;
    this.stopped = this.#keepHolding();
  }

  async #keepHolding(): Promise<void> {
    const { random, signal } = this.#options;
    while (!signal.aborted) {
      // Postgres is restarted in a soak.
      const hasHeld = await this.#holdOne(random.pick(TABLES)).catch(() => false);
      if (!hasHeld) await abortableSleep(RETRY_DELAY_MS, signal);
    }
  }

  /** Returns whether there was a row to hold. */
  async #holdOne(table: Hold['table']): Promise<boolean> {
    const { databaseUrl, random } = this.#options;
    const client = new Client({ connectionString: databaseUrl, application_name: 'soak lock holder' });
    const disconnected = new AbortController();
    client.on('error', () => disconnected.abort());
    let hold: Hold | undefined;
    try {
      await client.connect();
      const seed = random.integer(0, 2 ** 30);
      const { rows } = await client.query<{ id: string; company_id: string }>(CANDIDATES[table], [seed]);
      const [row] = rows;
      if (row === undefined) return false;
      // Others wait behind this session as soon as it waits for the row itself.
      hold = { table, companyId: row.company_id, from: performance.now(), to: Number.POSITIVE_INFINITY };
      this.holds.push(hold);
      await this.#lock(client, table, row.id, disconnected.signal);
      return true;
    } finally {
      await client.end().catch(() => undefined);
      if (hold !== undefined) hold.to = performance.now();
    }
  }

  async #lock(client: Client, table: Hold['table'], id: string, disconnected: AbortSignal): Promise<void> {
    const { random, durationMs, signal } = this.#options;
    await client.query('begin');
    await client.query(`select from lessor.${table} where id = $1 for update`, [id]);
    await abortableSleep(random.integer(durationMs.from, durationMs.to), AbortSignal.any([signal, disconnected]));
    await client.query('rollback');
  }
}
