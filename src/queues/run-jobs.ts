import { parse, runFinishedSchema, runHeartbeatSchema, runStartedSchema } from '../contracts/index.ts';
import type { PayloadQueueName, RunFinished, RunHeartbeat, RunStarted } from '../contracts/index.ts';
import { jobIds } from './job-options.ts';

/** A run that starts; `startedAt` defaults to now. */
export type RunStart = Omit<RunStarted, 'version' | 'startedAt'> & { startedAt?: string };
/** A run that ended; `finishedAt` defaults to now. */
export type RunEnd = Omit<RunFinished, 'version' | 'finishedAt'> & { finishedAt?: string };
/** A heartbeat of a run; `at` defaults to now. */
export type RunHeartbeatInput = Omit<RunHeartbeat, 'version' | 'at'> & { at?: string };

/** The reference to a published job. */
export interface PublishedJob {
  jobId: string;
}

/** The job of one event of a run: its queue, id and payload. */
export interface RunJob<Queue extends PayloadQueueName, Payload> extends PublishedJob {
  queue: Queue;
  payload: Payload;
}

/**
 * Builds the jobs of a run's events: fills in the version and the instant, and validates.
 * Each throws {@link InvalidPayloadError} when its input does not fit the contract.
 */
export const runJobs = {
  started(run: RunStart, now: Date): RunJob<'run-started', RunStarted> {
    const input = { version: 1, startedAt: now.toISOString(), ...run };
    const payload = parse(runStartedSchema, input, 'run-started payload');
    return { queue: 'run-started', jobId: jobIds.runStarted(payload), payload };
  },

  finished(run: RunEnd, now: Date): RunJob<'run-finished', RunFinished> {
    const input = { version: 1, finishedAt: now.toISOString(), ...run };
    const payload = parse(runFinishedSchema, input, 'run-finished payload');
    return { queue: 'run-finished', jobId: jobIds.runFinished(payload), payload };
  },

  heartbeat(run: RunHeartbeatInput, now: Date): RunJob<'run-heartbeat', RunHeartbeat> {
    const input = { version: 1, at: now.toISOString(), ...run };
    const payload = parse(runHeartbeatSchema, input, 'run-heartbeat payload');
    return { queue: 'run-heartbeat', jobId: jobIds.runHeartbeat(payload), payload };
  },
} as const;
