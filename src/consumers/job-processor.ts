import { DelayedError, UnrecoverableError, WaitingError } from 'bullmq';
import type { Job, Processor } from 'bullmq';
import type { Logger } from 'pino';
import { z } from 'zod';
import { formatRefusal, storableReason } from '../contracts/index.ts';
import type { Refusal } from '../contracts/index.ts';
import type { OperationOutcome } from '../environments/operations.ts';
import { refused } from '../environments/outcome.ts';
import type { HeldBy } from '../environments/outcome.ts';
import { JOB_OPTIONS } from '../queues/retry-policy.ts';
import { describeError } from './error-serializer.ts';
import type { Handler, HandlerDependencies } from './handler.ts';
import { WorkerStoppingError } from './store-outage.ts';
import { describeWait, readWait, waitedTooLong } from './workspace-wait.ts';

/** What a processor needs besides its handler. */
export interface JobProcessorOptions {
  dependencies: HandlerDependencies;
  logger: Logger;
  /** How long a run waits for its execution workspace before it is refused. */
  leaseWaitMs: number;
  /** Until a waiting run is looked at again. */
  waitDelayMs(): number;
  now(): number;
}

/**
 * Turns BullMQ jobs into calls of a handler, and its outcomes into BullMQ's errors: refused is never retried, waiting
 * and stopping spend no attempt, anything else is retried with backoff.
 */
export function createJobProcessor(handler: Handler, options: JobProcessorOptions): Processor<unknown, unknown> {
  return async (job, token) => {
    const logger = options.logger.child({ queue: handler.queue, job: job.id, ...runOf(job.data) });
    applyRetryPolicy(job, handler);
    try {
      const outcome = await handle(handler, job.data, options.dependencies);
      if (outcome.kind === 'refused') return await refuse(handler, job, outcome.refusal, options, logger);
      if (outcome.kind === 'waiting')
        return await waitForWorkspace(handler, job, token, outcome.heldBy, options, logger);
      logger.debug({ lease: leaseOf(outcome.result) }, 'job done');
      return outcome.result;
    } catch (error) {
      throw await toBullError(error, job, token, logger);
    }
  };
}

async function handle(handler: Handler, data: unknown, dependencies: HandlerDependencies): Promise<OperationOutcome> {
  const parsed = handler.schema.safeParse(data);
  if (!parsed.success) return refused('invalid_payload', z.prettifyError(parsed.error));
  return handler.handle(dependencies, parsed.data);
}

/** A client in another language may have set no attempts: the policy of this package is the least a job gets. */
function applyRetryPolicy(job: Job<unknown, unknown>, handler: Handler): void {
  const { attempts = 1, backoff } = JOB_OPTIONS[handler.queue];
  if ((job.opts.attempts ?? 1) >= attempts) return;
  job.opts = { ...job.opts, attempts, ...(backoff === undefined ? {} : { backoff }) };
}

async function refuse(
  handler: Handler,
  job: Job<unknown, unknown>,
  { code, reason }: Refusal,
  { dependencies }: JobProcessorOptions,
  logger: Logger,
): Promise<never> {
  const refusal = { code, reason: storableReason(reason) };
  logger.warn(refusal, 'job refused');
  await handler.denied?.(dependencies, job.data, refusal);
  throw new UnrecoverableError(formatRefusal(refusal));
}

async function waitForWorkspace(
  handler: Handler,
  job: Job<unknown, unknown>,
  token: string | undefined,
  heldBy: HeldBy,
  options: JobProcessorOptions,
  logger: Logger,
): Promise<never> {
  const wait = readWait(job.progress, heldBy, options.now());
  if (waitedTooLong(wait, options.now(), options.leaseWaitMs)) {
    return refuse(handler, job, { code: 'workspace_held', reason: describeWait(wait) }, options, logger);
  }
  logger.debug({ heldBy }, 'job waits for its execution workspace');
  await job.updateProgress(wait);
  await job.moveToDelayed(options.now() + options.waitDelayMs(), token);
  throw new DelayedError();
}

async function toBullError(
  error: unknown,
  job: Job<unknown, unknown>,
  token: string | undefined,
  logger: Logger,
): Promise<Error> {
  if (error instanceof DelayedError || error instanceof UnrecoverableError) return error;
  if (error instanceof WorkerStoppingError) {
    await job.moveToWait(token);
    return new WaitingError();
  }
  const isLast = job.attemptsMade + 1 >= (job.opts.attempts ?? 1);
  const details = { err: error, attempt: job.attemptsMade + 1, attempts: job.opts.attempts };
  if (isLast) logger.error(details, 'job failed for good: it stays in the failed set until someone retries it');
  else logger.warn(details, 'job failed and will be retried');
  return new Error(describeError(error));
}

/** The company and run of a job, for its log lines, from data that may be anything. */
function runOf(data: unknown): { company: unknown; run: unknown } {
  const { companyId, runId }: { companyId?: unknown; runId?: unknown } =
    typeof data === 'object' && data !== null ? data : {};
  return { company: companyId, run: runId };
}

function leaseOf(result: unknown): unknown {
  if (typeof result !== 'object' || result === null) return undefined;
  if ('leases' in result && Array.isArray(result.leases)) return result.leases.map((lease: { id: string }) => lease.id);
  return 'id' in result ? result.id : undefined;
}
