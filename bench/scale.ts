import type { ContenderName } from './contenders/index.ts';

/** How much is measured. */
export interface Scale {
  rounds: number;
  companies: number;
  /** Start/finish pairs per round. Slow contenders get fewer, which favours them: their backlogs stay short. */
  pairs: Readonly<Record<ContenderName, number>>;
  /** Pairs that each process handles before the first round, so that its code is compiled. */
  warmUpPairs: number;
  latency: {
    /** Runs that measure the capacity, of which a fifth is then offered. */
    capacityPairs: number;
    /** Not measured: connections are opened and code is compiled. */
    warmUpSeconds: number;
    seconds: number;
    /** Single runs on an idle system. */
    idleRuns: number;
  };
  fairness: {
    backlog: Readonly<Record<'redis' | 'postgres', number>>;
    /** Fewer than `rounds`, because a backlog on Postgres takes minutes. */
    roundsOnPostgres: number;
    /** Between two runs of the small company. */
    everyMs: number;
  };
  growth: { leases: number; pairs: number };
  replicas: { delayedPairs: number; directPairs: number };
  memory: { jobs: number };
  start: { times: number };
}

export const FULL: Scale = {
  rounds: 5,
  companies: 100,
  pairs: {
    noop: 20_000,
    store: 10_000,
    lessor: 10_000,
    lessorPostgres: 4_000,
    perJobTransaction: 3_000,
    graphileWorker: 3_000,
    pgBoss: 3_000,
    groupmq: 3_000,
    inProcess: 3_000,
  },
  warmUpPairs: 1_000,
  latency: { capacityPairs: 10_000, warmUpSeconds: 2, seconds: 10, idleRuns: 200 },
  fairness: { backlog: { redis: 50_000, postgres: 50_000 }, roundsOnPostgres: 2, everyMs: 1_000 },
  growth: { leases: 2_000_000, pairs: 10_000 },
  replicas: { delayedPairs: 4_000, directPairs: 10_000 },
  memory: { jobs: 500_000 },
  start: { times: 5 },
};

/** Under a minute in all: to see that everything runs and that every row is right. */
export const QUICK: Scale = {
  rounds: 1,
  companies: 100,
  pairs: {
    noop: 1_500,
    store: 1_000,
    lessor: 1_000,
    lessorPostgres: 150,
    perJobTransaction: 150,
    graphileWorker: 150,
    pgBoss: 150,
    groupmq: 150,
    inProcess: 150,
  },
  warmUpPairs: 100,
  latency: { capacityPairs: 500, warmUpSeconds: 0, seconds: 1, idleRuns: 20 },
  fairness: { backlog: { redis: 2_000, postgres: 250 }, roundsOnPostgres: 1, everyMs: 50 },
  growth: { leases: 10_000, pairs: 500 },
  replicas: { delayedPairs: 100, directPairs: 300 },
  memory: { jobs: 2_000 },
  start: { times: 1 },
};
