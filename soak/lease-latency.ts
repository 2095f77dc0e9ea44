import { percentile } from '../testing/statistics.ts';
import type { Hold } from './lock-holder.ts';

/** How long runs waited for their leases. */
export interface LatencySummary {
  runs: number;
  p50Ms: number;
  p99Ms: number;
  maximumMs: number;
}

/** From a run's start to its lease, in milliseconds of `performance.now()`. */
export interface LeaseWait {
  companyId: string;
  from: number;
  to: number;
}

/** How long runs waited for their leases, by whether a row of their company was held meanwhile by somebody else. */
export interface LeaseLatency {
  notHeld: LatencySummary | null;
  held: LatencySummary | null;
}

/** Summarizes waits; a wait counts as held when a hold of its company overlaps it. */
export function summarizeLatency(waits: readonly LeaseWait[], holds: readonly Hold[]): LeaseLatency {
  const isHeld = ({ companyId, from, to }: LeaseWait) =>
    holds.some((hold) => hold.companyId === companyId && hold.from < to && from < hold.to);
  const [held, notHeld]: [number[], number[]] = [[], []];
  for (const wait of waits) (isHeld(wait) ? held : notHeld).push(wait.to - wait.from);
  return { notHeld: summaryOf(notHeld), held: summaryOf(held) };
}

function summaryOf(latencies: readonly number[]): LatencySummary | null {
  if (latencies.length === 0) return null;
  const [p50Ms, p99Ms, maximumMs] = [0.5, 0.99, 1].map((share) => Math.round(percentile(latencies, share)));
  return { runs: latencies.length, p50Ms: p50Ms!, p99Ms: p99Ms!, maximumMs: maximumMs! };
}
