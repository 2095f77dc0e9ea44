import type { Processor } from 'bullmq';
import type { Handler } from './handler.ts';
import { JobAttempt } from './job-attempt.ts';
import type { JobAttemptOptions } from './job-attempt.ts';

/**
 * Turns BullMQ jobs into calls of a handler, and its outcomes into BullMQ's errors: refused is never retried, waiting
 * and stopping spend no attempt, anything else is retried with backoff.
 */
export function createJobProcessor(handler: Handler, options: JobAttemptOptions): Processor<unknown, unknown> {
  return (job, token) => new JobAttempt(handler, job, token, options).run();
}
