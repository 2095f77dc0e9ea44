import type { Machine } from './machine.ts';
import type { Scale } from './scale.ts';
import type { Backend, FairnessResults } from './sections/fairness.ts';
import type { GrowthResults } from './sections/growth.ts';
import type { LatencyResults } from './sections/latency.ts';
import type { MemoryResults } from './sections/memory.ts';
import type { ReplicasCase, ReplicasResult } from './sections/replicas.ts';
import type { StartResults } from './sections/start.ts';
import type { ThroughputResults } from './sections/throughput.ts';

/** The results of a bench. What was not selected, or failed, is missing. */
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
  /** How many measurements were audited, and their violations. */
  audits: number;
  violations: string[];
  /** Failed measurements, with their errors. */
  failures: string[];
}
