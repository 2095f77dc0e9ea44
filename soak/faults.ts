import { setTimeout as sleep } from 'node:timers/promises';
import { abortableSleep } from '../src/lib/abort.ts';
import { LockHolder } from './lock-holder.ts';
import type { Hold } from './lock-holder.ts';
import { Random } from './random.ts';
import type { Replicas } from './replicas.ts';
import type { RestartableStores } from '../testing/stores/open-stores.ts';
import { until } from '../testing/until.ts';

/** Which faults are injected, and where. */
export interface FaultOptions {
  stores: RestartableStores;
  replicas: Replicas;
  seed: number;
  killEveryMs: number;
  postgresRestarts: number;
  /** Without effect where the queues are in Postgres. */
  redisRestarts: number;
  /** Sessions that hold locks on rows of random companies. */
  lockHolders: number;
  /** The share of the workload that is published, from 0 to 1: restarts are spread over it. */
  progress: () => number;
  signal: AbortSignal;
}

/** A restart of a store, once the share `at` of the workload is published. */
interface PlannedRestart {
  at: number;
  stop(): Promise<void>;
  start(): Promise<void>;
  done(): void;
}

const POLL_INTERVAL_MS = 50;

/** How long a store is unreachable, besides the time that its restart takes. */
const OUTAGE_MS = { from: 100, to: 2_000 };

/** From a slow transaction to a psql that somebody forgot. */
const HOLD_DURATION_MS = { from: 5_000, to: 30_000 };

/** Kills replicas, restarts stores and holds locks while a workload runs. */
export class Faults {
  readonly restarts = { postgres: 0, redis: 0 };
  /** Resolves once all restarts are done; rejects when a store does not start again. */
  readonly restarted: Promise<void>;
  readonly #options: FaultOptions;
  readonly #random: Random;
  readonly #stopped = new AbortController();
  readonly #killing: Promise<void>;
  readonly #lockHolders: readonly LockHolder[];

  constructor(options: FaultOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#killing = this.#keepKilling();
    this.restarted = this.#restartStores();
    this.#lockHolders = this.#startLockHolders();
  }

  /** The rows that were held. */
  get holds(): Hold[] {
    return this.#lockHolders.flatMap((holder) => holder.holds);
  }

  /** How many rows of each table were held. */
  countHolds(): Record<Hold['table'], number> {
    const counts = { companies: 0, heartbeat_runs: 0, environment_leases: 0 };
    for (const { table } of this.holds) counts[table] += 1;
    return counts;
  }

  /** Stops killing replicas and gives up all locks. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await Promise.all([this.#killing, ...this.#lockHolders.map((holder) => holder.stopped)]);
  }

  #startLockHolders(): LockHolder[] {
    const { stores, lockHolders, seed, signal } = this.#options;
    return Array.from({ length: lockHolders }, (_, number) => {
      return new LockHolder({
        databaseUrl: stores.databaseUrl,
        random: new Random(seed + 1 + number),
        durationMs: HOLD_DURATION_MS,
        signal: AbortSignal.any([signal, this.#stopped.signal]),
      });
    });
  }

  async #keepKilling(): Promise<void> {
    const signal = AbortSignal.any([this.#options.signal, this.#stopped.signal]);
    while (await sleep(this.#options.killEveryMs, true, { signal }).catch(() => false)) {
      this.#options.replicas.killOne(this.#random);
    }
  }

  async #restartStores(): Promise<void> {
    const { progress, signal } = this.#options;
    for (const restart of this.#planRestarts()) {
      const isDue = () => signal.aborted || progress() >= restart.at;
      await until(isDue, { timeoutMs: Number.POSITIVE_INFINITY, intervalMs: POLL_INTERVAL_MS });
      if (signal.aborted) return;
      await restart.stop();
      // The store is started again even after the time limit, to be audited.
      await abortableSleep(this.#random.integer(OUTAGE_MS.from, OUTAGE_MS.to), signal);
      await restart.start();
      restart.done();
    }
  }

  /** Crashes and shutdowns alternate, a crash first: a store that is restarted once has crashed. */
  #planRestarts(): PlannedRestart[] {
    const { stores, postgresRestarts, redisRestarts } = this.#options;
    const { postgres, redis } = stores;
    const ofPostgres = Array.from({ length: postgresRestarts }, (_, number): PlannedRestart => {
      return {
        at: (number + 1) / (postgresRestarts + 1),
        stop: () => postgres.stop(number % 2 === 0 ? 'immediate' : 'fast'),
        start: () => postgres.start(),
        done: () => (this.restarts.postgres += 1),
      };
    });
    if (redis === undefined) return ofPostgres;
    const ofRedis = Array.from({ length: redisRestarts }, (_, number): PlannedRestart => {
      return {
        // Between the restarts of Postgres.
        at: (number + 0.5) / (redisRestarts + 0.5),
        stop: () => redis.stop(number % 2 === 0 ? 'SIGKILL' : 'SIGTERM'),
        start: () => redis.start(),
        done: () => (this.restarts.redis += 1),
      };
    });
    return [...ofPostgres, ...ofRedis].toSorted((one, other) => one.at - other.at);
  }
}
