import type { WorkerSettings } from '../src/index.ts';
import type { Surroundings } from './contenders/contender.ts';
import type { ContenderName } from './contenders/index.ts';
import type { Phase, Run } from './workload.ts';

/** What a worker process can be asked to do, and what it answers. */
export interface WorkerCalls {
  /** Opens a contender for some runs. */
  open(name: ContenderName, where: Surroundings, runs: readonly Run[]): Promise<void>;
  load(phase: Phase): Promise<void>;
  /** Works off what was loaded, and says how long that took, in milliseconds. */
  drain(): Promise<number>;
  /** Closes the contender, and says what it noticed that must not be. */
  close(): Promise<string[]>;
  /** Starts a worker of Lessor, which works off whatever comes. */
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

/** A call on its way to the process, and its answer. */
export interface CallMessage {
  call: number;
  method: keyof WorkerCalls;
  args: unknown[];
}
export type AnswerMessage = { call: number } & ({ result: unknown } | { error: string; stack?: string });
