import type { BenchResults } from '../../bench/results.ts';
import { QUICK } from '../../bench/scale.ts';

const COSTS = { nodeMs: 0.05, postgresMs: 0.06, redisMs: 0.03, walBytes: 2_000, transactions: 0.01, redisCommands: 25 };

/** Results of a bench in which nothing but some contenders was measured. */
export function resultsOf(rates: Partial<Record<'lessor' | 'noop' | 'graphileWorker', number[]>>): BenchResults {
  const many = Object.fromEntries(
    Object.entries(rates).map(([name, values]) => [name, values.map((rate) => ({ rate, costs: COSTS }))]),
  );
  return {
    startedAt: '2026-01-01T00:00:00.000Z',
    seconds: 12,
    secondsOf: { throughput: 12 },
    quick: true,
    scale: QUICK,
    machine: {
      cpu: 'A processor',
      cores: 2,
      memoryGb: 8,
      system: 'linux',
      node: 'v20.20.0',
      nodeFlags: ['--max-semi-space-size=32'],
      postgres: '18.4',
      redis: '8.0.0',
      packages: [{ name: 'bullmq', version: '6.7.0', node: '>=18' }],
    },
    throughput: { many, one: {} },
    audits: 6,
    violations: [],
    failures: [],
  };
}

/** What all the sections found, next to nothing but in place. */
export const SECTIONS = {
  latency: {
    capacity: 10_000,
    offered: 2_000,
    rounds: {
      noop: [{ p50: 1, p99: 4, idleP50: 1, idleP99: 2 }],
      lessor: [{ p50: 2, p99: 12, idleP50: 3, idleP99: 5 }],
    },
    ratio: { p50: 2, p99: 3 },
    idleAbove: 2,
  },
  fairness: {
    redis: fairness(0.03, 0.02),
    postgres: fairness(0.9, 0.2),
  },
  growth: { leases: 1_000, activityRows: 2_000, empty: [100], grown: [90], ratio: 0.9 },
  replicas: {
    manyCompanies: replicas(1_000, 3.1),
    fewCompanies: replicas(10, 1.2),
    withoutDelay: replicas(1_000, 0.95),
  },
  memory: {
    jobs: 1_000,
    samples: [
      { jobs: 500, bytes: 100 * 2 ** 20 },
      { jobs: 1_000, bytes: 105 * 2 ** 20 },
    ],
    warmUpJobs: 200,
    median: 102.5 * 2 ** 20,
    minimum: 100 * 2 ** 20,
    maximum: 105 * 2 ** 20,
    deviation: 0.024,
  },
  start: { values: [800, 900, 1_200], median: 900 },
} satisfies Partial<BenchResults>;

function fairness(share: number, loss: number) {
  const rounds = [{ aloneMs: 1_000, besideMs: 1_000 * (1 + loss), runsOfB: 10, p50Ms: 5, p99Ms: 1_000 * share }];
  return { backlog: 1_000, everyMs: 50, rounds, share, loss };
}

function replicas(companies: number, ratio: number) {
  return { companies, delayMs: 5, concurrency: 25, one: [100], four: [100 * ratio], ratio };
}
