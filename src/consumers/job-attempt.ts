import { DelayedError, UnrecoverableError, WaitingError } from 'bullmq';
import type { Job } from 'bullmq';
import type { Logger } from 'pino';
import { z } from 'zod';
import { formatRejection, storableReason } from '../contracts/index.ts';
import type { Rejection } from '../contracts/index.ts';
import { kindOfSqlError } from '../db/sql-errors.ts';
import type { OperationOutcome } from '../environments/operations/operation.ts';
import { JOB_OPTIONS } from '../queues/retry-policy.ts';
import { describeError } from './error-serializer.ts';
import type { Attempt, Handler, HandlerDependencies } from './handler.ts';
import type { Committer } from './committer.ts';
import { PoisonousJobError } from './poison-isolation.ts';
import type { PoisonIsolation } from './poison-isolation.ts';
import { WorkerStoppingError } from './database-outage.ts';

/** What an attempt needs besides its handler and its job. */
export interface JobAttemptOptions {
  operations: HandlerDependencies & Pick<Committer, 'submitAlone'>;
  isolation: PoisonIsolation;
  logger: Logger;
  /** Until a waiting run is looked at again. */
  waitDelayMs: () => number;
  /** Until a job is looked at again that found its environment busy, having been started so often. */
  snoozeMs: (starts: number) => number;
  now: () => number;
}

/** One attempt at one job. */
export class JobAttempt {
  readonly #handler: Handler;
  readonly #job: Job<unknown, unknown>;
  readonly #token: string | undefined;
  readonly #options: JobAttemptOptions;

  constructor(handler: Handler, job: Job<unknown, unknown>, token: string | undefined, options: JobAttemptOptions) {
    this.#handler = handler;
    this.#job = job;
    this.#token = token;
    this.#options = options;
  }

  /** The job's return value. Throws what BullMQ is to do with it otherwise. */
  async run(): Promise<unknown> {
    this.#applyRetryPolicy();
    try {
      const outcome = await this.#carryOut();
      if (outcome.kind === 'rejected') throw this.#refused(outcome.rejection);
      if (outcome.kind === 'waiting') throw await this.#waiting(outcome);
      if (outcome.kind === 'snoozed') throw await this.#snoozed(outcome.reason);
      if (outcome.kind !== 'done') throw new Error(outcome.kind === 'unavailable' ? outcome.reason : outcome.kind);
      this.#tellDone(outcome.result);
      return outcome.result;
    } catch (error) {
      throw await this.#toBullError(error);
    }
  }

  #tellDone(result: unknown): void {
    if (this.#options.logger.isLevelEnabled('debug')) this.#logger.debug({ lease: leaseOf(result) }, 'job done');
  }

  /** Made when there is something to tell: what every line says of the job is written out as it is made. */
  get #logger(): Logger {
    return this.#options.logger.child({ queue: this.#handler.queue, job: this.#job.id, ...runOf(this.#job.data) });
  }

  /** A client in another language may have set no attempts: the policy of this package is the least a job gets. */
  #applyRetryPolicy(): void {
    const { attempts = 1, backoff } = JOB_OPTIONS[this.#handler.queue];
    // Jobs of releases are published by workers alone, with attempts as they are set to.
    if (this.#handler.queue === 'lease-release' || (this.#job.opts.attempts ?? 1) >= attempts) return;
    this.#job.opts = { ...this.#job.opts, attempts, ...(backoff === undefined ? {} : { backoff }) };
  }

  async #carryOut(): Promise<OperationOutcome> {
    const { isolation, operations } = this.#options;
    if (!isolation.isSuspect(this.#job)) return this.#handle(operations);
    const takeovers = this.#job.stalledCounter;
    this.#logger.debug({ takeovers }, 'a replica died at work on this job: it is tried alone');
    return isolation.tryAlone(this.#job, () => this.#handle({ ...operations, submit: operations.submitAlone }));
  }

  async #handle(dependencies: HandlerDependencies): Promise<OperationOutcome> {
    const parsed = this.#handler.schema.safeParse(this.#job.data);
    if (!parsed.success) return this.#deny({ code: 'invalid_payload', reason: z.prettifyError(parsed.error) });
    try {
      return await this.#handler.handle(dependencies, parsed.data, this.#attempt());
    } catch (error) {
      if (kindOfSqlError(error) !== 'rejected') throw error;
      return this.#deny({ code: 'not_storable', reason: describeError(error) });
    }
  }

  /** A rejection that no operation told, because none came so far. */
  async #deny({ code, reason }: Rejection): Promise<OperationOutcome> {
    const rejection = { code, reason: storableReason(reason) };
    await this.#handler.denied?.(this.#options.operations, this.#job.data, rejection);
    return { kind: 'rejected', rejection };
  }

  #refused(rejection: Rejection): UnrecoverableError {
    this.#logger.warn(rejection, 'job refused');
    return new UnrecoverableError(formatRejection(rejection));
  }

  /** The job's progress says whom it waits for: that is what an operator sees of it in the dashboard. */
  async #waiting({ heldBy, since }: Extract<OperationOutcome, { kind: 'waiting' }>): Promise<Error> {
    this.#logger.debug({ heldBy, since }, 'job waits for its execution workspace');
    await this.#job.updateProgress({ waitingSince: since, heldBy });
    await this.#job.moveToDelayed(this.#options.now() + this.#options.waitDelayMs(), this.#token);
    return new DelayedError();
  }

  async #snoozed(reason: string): Promise<Error> {
    this.#logger.debug({ reason }, 'job is put back for a while');
    const delayMs = this.#options.snoozeMs(this.#job.attemptsStarted);
    await this.#job.moveToDelayed(this.#options.now() + delayMs, this.#token);
    return new DelayedError();
  }

  #attempt(): Attempt {
    const { attemptsMade, opts } = this.#job;
    return { number: attemptsMade + 1, isLast: attemptsMade + 1 >= (opts.attempts ?? 1) };
  }

  async #toBullError(error: unknown): Promise<Error> {
    if (error instanceof PoisonousJobError) this.#logger.error({ err: error }, 'job failed for good');
    if (error instanceof DelayedError || error instanceof UnrecoverableError) return error;
    if (error instanceof WorkerStoppingError) {
      await this.#job.moveToWait(this.#token);
      return new WaitingError();
    }
    const { number, isLast } = this.#attempt();
    const details = { err: error, attempt: number, attempts: this.#job.opts.attempts };
    if (isLast) this.#logger.error(details, 'job failed for good: it stays in the failed set until someone retries it');
    else this.#logger.warn(details, 'job failed and will be retried');
    return new Error(describeError(error));
  }
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
