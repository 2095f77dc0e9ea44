import type { WorkerSettings } from '../src/index.ts';
import type { ContenderStores } from './contenders/contender.ts';
import type { ContenderName } from './contenders/index.ts';
import type { Phase, Run } from './workload.ts';

/** The calls of a {@link WorkerProcess}, and their results. */
export interface WorkerCalls {
  /** Opens a contender for some runs. */
  open(name: ContenderName, stores: ContenderStores, runs: readonly Run[]): Promise<void>;
  load(phase: Phase): Promise<void>;
  /** Processes what was loaded. Returns the milliseconds it took. */
  drain(): Promise<number>;
  /** Closes the contender. Returns the violations it detected. */
  close(): Promise<string[]>;
  /** Starts a Lessor worker. */
  startLessor(settings: WorkerSettings): Promise<void>;
  /** Starts workers of BullMQ with an empty processor. */
  startNoop(redisUrl: string): Promise<void>;
  stopWorker(): Promise<void>;
  usage(): Promise<ProcessUsage>;
}

/** What a process has used since it started. */
export interface ProcessUsage {
  cpuMs: number;
  /** Its memory now, in bytes. */
  rss: number;
}

/** A call to the process, and its answer. */
export interface CallMessage {
  call: number;
  method: keyof WorkerCalls;
  args: unknown[];
}
export type AnswerMessage = { call: number } & ({ result: unknown } | { error: string; stack?: string });
