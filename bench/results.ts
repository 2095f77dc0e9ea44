import type { Machine } from './machine.ts';
import type { Scale } from './scale.ts';
import type { Backend, FairnessResults } from './sections/fairness.ts';
import type { GrowthResults } from './sections/growth.ts';
import type { LatencyResults } from './sections/latency.ts';
import type { MemoryResults } from './sections/memory.ts';
import type { ReplicasCase, ReplicasResult } from './sections/replicas.ts';
import type { StartResults } from './sections/start.ts';
import type { ThroughputResults } from './sections/throughput.ts';

/** All that a bench has found. What was not asked for, or failed, is missing. */
export interface BenchResults {
  startedAt: string;
  seconds: number;
  /** How long each part took, in seconds. */
  secondsOf: Record<string, number>;
  quick: boolean;
  scale: Scale;
  machine: Machine;
  throughput: ThroughputResults;
  latency?: LatencyResults;
  fairness?: Record<Backend, FairnessResults>;
  growth?: GrowthResults;
  replicas?: Record<ReplicasCase, ReplicasResult>;
  memory?: MemoryResults;
  start?: StartResults;
  /** How often the rows of a measurement were audited, and what was wrong with them. */
  audits: number;
  violations: string[];
  /** What could not be measured, and why. */
  failures: string[];
}
