import type { Sql } from 'postgres';
import { hasProc, processStat, processStats } from '../testing/running-processes.ts';
import { onDatabase } from '../testing/stores/databases.ts';
import type { BenchStores } from './stores.ts';
import type { WorkerProcess } from './worker-process.ts';

/** Resources used so far, or between two readings. */
export interface Costs {
  /** CPU time of the worker process, of all of Postgres, and of Redis. Of Postgres it is unknown without /proc. */
  nodeMs: number;
  postgresMs: number | undefined;
  redisMs: number;
  walBytes: number;
  /** Transactions that wrote something. */
  transactions: number;
  redisCommands: number;
}

/** Reads what the stores and a worker process have used, over one connection of its own to each store. */
export class CostMeter {
  readonly #sql: Sql;
  readonly #redis: BenchStores['redis'];
  readonly #postmaster: number | undefined;

  private constructor(sql: Sql, redis: BenchStores['redis'], postmaster: number | undefined) {
    this.#sql = sql;
    this.#redis = redis;
    this.#postmaster = postmaster;
  }

  /** Runs the work with a meter, and closes the meter. */
  static during<Result>(stores: BenchStores, work: (meter: CostMeter) => Promise<Result>): Promise<Result> {
    return onDatabase(stores.serverUrl, async (sql) => {
      const [backend] = await sql`select pg_backend_pid() as pid`;
      const postmaster = hasProc ? processStat(backend!['pid'])?.parent : undefined;
      return work(new CostMeter(sql, stores.redis, postmaster));
    });
  }

  async read(worker: WorkerProcess): Promise<Costs> {
    const { cpuMs: nodeMs } = await worker.call('usage');
    const sql = this.#sql;
    const [row] = await sql<[{ wal: string; transactions: string }]>`
      select pg_current_wal_insert_lsn() - '0/0' as wal, pg_snapshot_xmax(pg_current_snapshot()) as transactions`;
    const info = String(await this.#redis.call('INFO', 'everything'));
    const redisSeconds = readInfo(info, 'used_cpu_user') + readInfo(info, 'used_cpu_sys');
    return {
      nodeMs,
      postgresMs: this.#postmaster === undefined ? undefined : cpuOfFamily(this.#postmaster),
      redisMs: redisSeconds * 1_000,
      walBytes: Number(row.wal),
      transactions: Number(row.transactions),
      redisCommands: readInfo(info, 'total_commands_processed'),
    };
  }
}

export function costsBetween(before: Costs, after: Costs): Costs {
  return combine(before, after, (one, other) => other - one);
}

export function addCosts(one: Costs, other: Costs): Costs {
  return combine(one, other, (left, right) => left + right);
}

/** The costs of one of these jobs. */
export function costsPerJob(costs: Costs, jobs: number): Costs {
  return combine(costs, costs, (total) => total / jobs);
}

function combine(one: Costs, other: Costs, of: (left: number, right: number) => number): Costs {
  const { postgresMs: left } = one;
  const { postgresMs: right } = other;
  return {
    nodeMs: of(one.nodeMs, other.nodeMs),
    postgresMs: left === undefined || right === undefined ? undefined : of(left, right),
    redisMs: of(one.redisMs, other.redisMs),
    walBytes: of(one.walBytes, other.walBytes),
    transactions: of(one.transactions, other.transactions),
    redisCommands: of(one.redisCommands, other.redisCommands),
  };
}

function readInfo(info: string, field: string): number {
  return Number(new RegExp(`^${field}:(.*?)\\r?$`, 'm').exec(info)?.[1]);
}

/** CPU time of a process, of its children, and of those children that have ended. */
function cpuOfFamily(parent: number): number {
  const family = processStats().filter((stat) => stat.pid === parent || stat.parent === parent);
  return family.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
}
