import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import type { Sql } from 'postgres';
import type { RedisProcess } from '../test/support/redis-process.ts';
import { onDatabase } from './stores.ts';
import type { BenchStores } from './stores.ts';
import type { WorkerProcess } from './worker-process.ts';

/** What was used until now, or between two such instants. */
export interface Costs {
  /** CPU of the worker process, of all of Postgres and of Redis; Postgres' is unknown where there is no /proc. */
  nodeMs: number;
  postgresMs: number | undefined;
  redisMs: number;
  walBytes: number;
  /** Those that wrote something. */
  transactions: number;
  redisCommands: number;
}

/** Reads what the stores and a worker process have used. It reads through one connection of its own to each. */
export class CostMeter {
  readonly #sql: Sql;
  readonly #redis: RedisProcess;
  readonly #postmaster: number | undefined;

  private constructor(sql: Sql, redis: RedisProcess, postmaster: number | undefined) {
    this.#sql = sql;
    this.#redis = redis;
    this.#postmaster = postmaster;
  }

  /** Runs the work with a meter that is closed after it. */
  static during<Result>(stores: BenchStores, work: (meter: CostMeter) => Promise<Result>): Promise<Result> {
    return onDatabase(stores.serverUrl, async (sql) => {
      const [backend] = await sql`select pg_backend_pid() as pid`;
      const postmaster = existsSync('/proc/self/stat') ? (await readStat(backend!['pid']))?.parent : undefined;
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
      postgresMs: this.#postmaster === undefined ? undefined : await cpuOfFamily(this.#postmaster),
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

/** The share of each of so many jobs. */
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

/** Linux counts in hundredths of a second wherever Node runs. */
const MS_PER_TICK = 10;

/** CPU of a process, of its children, and of those children that have ended. */
async function cpuOfFamily(parent: number): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const stats = (await Promise.all(pids.map(readStat))).filter((stat) => stat !== undefined);
  const family = stats.filter((stat) => stat.pid === parent || stat.parent === parent);
  return family.reduce((sum, { ticks }) => sum + ticks * MS_PER_TICK, 0);
}

interface ProcessStat {
  pid: number;
  parent: number;
  ticks: number;
}

/** Undefined for a process that has ended meanwhile. */
async function readStat(pid: number): Promise<ProcessStat | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses can hold anything, so what follows is counted from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [user, system, childrenUser, childrenSystem] = fields.slice(11, 15).map(Number);
    return { pid, parent: Number(fields[1]), ticks: user! + system! + childrenUser! + childrenSystem! };
  } catch (error) {
    if (error instanceof Error && 'code' in error && ['ENOENT', 'ESRCH'].includes(String(error.code))) return undefined;
    throw error;
  }
}
