import type { BenchResults } from '../results.ts';
import { oneCompanyOf, ratioOf } from './figures.ts';

/** A target, and the measured value. */
export interface Target {
  what: string;
  bar: string;
  /** Undefined when it was not measured. */
  measured: string | undefined;
  holds: boolean | undefined;
}

const MEBIBYTE = 2 ** 20;

export function targetsOf(results: BenchResults): Target[] {
  const { latency, fairness, growth, replicas, memory, start } = results;
  const memoryHolds = memory && memory.deviation <= 0.1 && memory.maximum < 200 * MEBIBYTE;
  return [
    atLeast('throughput over the empty processor', ratioOf(results, 'noop')?.median, 0.5),
    atLeast('one company over many', oneCompanyOf(results, 'lessor')?.ratio, 0.9),
    atLeast('over one transaction per job', ratioOf(results, 'perJob')?.median, 6),
    atLeast('over groupmq', ratioOf(results, 'groupmq')?.median, 6),
    atLeast('over graphile-worker', ratioOf(results, 'graphileWorker')?.median, 10),
    atLeast('over pg-boss', ratioOf(results, 'pgBoss')?.median, 10),
    atMost('latency at a fifth of capacity, p50 over the empty processor', latency?.ratio.p50, 3),
    atMost('latency at a fifth of capacity, p99 over the empty processor', latency?.ratio.p99, 4),
    atMost('idle latency above the empty processor', latency?.idleAbove, 3, ' ms'),
    ...(['redis', 'postgres'] as const).flatMap((backend) => [
      atMost(`B’s p99 over the time of A’s backlog, ${backend}`, fairness?.[backend].share, 0.05),
      atMost(`what A loses to B, ${backend}`, fairness?.[backend].loss, 0.1),
    ]),
    atLeast('on a grown database over an empty one', growth?.ratio, 0.85),
    atLeast('four replicas over one, 1,000 companies, 5 ms away', replicas?.manyCompanies.ratio, 3),
    atLeast('four replicas over one, 10 companies, 5 ms away', replicas?.fewCompanies.ratio, 1.5),
    atLeast('four replicas over one, without delay', replicas?.withoutDelay.ratio, 0.9),
    {
      what: 'memory of a worker after its warm-up',
      bar: '±10%, below 200 MiB',
      measured: memory && `±${(memory.deviation * 100).toFixed(1)}%, ${(memory.maximum / MEBIBYTE).toFixed(0)} MiB`,
      holds: memoryHolds,
    },
    atMost('start of a worker to its first lease', start?.median, 1_000, ' ms'),
  ];
}

function atLeast(what: string, value: number | undefined, bar: number): Target {
  return { what, bar: `≥ ${bar}`, measured: value?.toFixed(2), holds: value === undefined ? undefined : value >= bar };
}

function atMost(what: string, value: number | undefined, bar: number, unit = ''): Target {
  const measured = value === undefined ? undefined : `${value >= 100 ? value.toFixed(0) : value.toFixed(3)}${unit}`;
  return { what, bar: `≤ ${bar}${unit}`, measured, holds: value === undefined ? undefined : value <= bar };
}
