import { DelayedError, UnrecoverableError, WaitingError } from 'bullmq';
import type { Job, Processor } from 'bullmq';
import type { Logger } from 'pino';
import { z } from 'zod';
import { formatRejection, storableReason } from '../contracts/index.ts';
import type { Rejection } from '../contracts/index.ts';
import { kindOfSqlError } from '../db/sql-errors.ts';
import type { OperationOutcome } from '../environments/operations/operation.ts';
import { JOB_OPTIONS } from '../queues/job-options.ts';
import { WorkerStoppingError } from './database-outage.ts';
import { describeError } from './error-serializer.ts';
import type { Attempt, Handler, HandlerDependencies } from './handlers.ts';
import type { Committer } from './committer.ts';
import { PoisonPillError } from './poison-quarantine.ts';
import type { PoisonQuarantine } from './poison-quarantine.ts';

/** What an attempt needs besides its handler and its job. */
export interface JobAttemptOptions {
  committer: HandlerDependencies & Pick<Committer, 'submitIsolated'>;
  quarantine: PoisonQuarantine;
  logger: Logger;
  /** The delay of a job that waits for its execution workspace. */
  waitDelayMs: () => number;
  /** The delay of a snoozed job that was started so often. */
  snoozeDelayMs: (starts: number) => number;
  now: () => number;
}

/** Adapts a handler to BullMQ. */
export function createJobProcessor(handler: Handler, options: JobAttemptOptions): Processor<unknown, unknown> {
  return (job, token) => new JobAttempt(handler, job, token, options).run();
}

/**
 * One attempt at one job: calls the handler, and tells BullMQ the outcome by a return value or an error.
 *
 *     outcome                     BullMQ              the job                        counts as an attempt
 *     done                        return value        completed                      yes
 *     rejected                    UnrecoverableError  failed                         yes
 *     waiting (workspace held)    DelayedError        delayed by `waitDelayMs`       no
 *     snoozed (environment busy)  DelayedError        delayed by `snoozeDelayMs`     no
 *     worker stopping             WaitingError        requeued                       no
 *     unavailable, other errors   Error               retried with backoff; failed   yes
 *                                                     after the last attempt
 *     poison pill                 PoisonPillError     failed                         yes
 *
 * A payload that does not match its schema and one that Postgres rejects are rejected here, since no operation was
 * there to do it. A job that was recovered from crashed replicas is attempted in isolation (`poison-quarantine.ts`).
 */
class JobAttempt {
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

  async run(): Promise<unknown> {
    this.#applyRetryPolicy();
    try {
      return await this.#resolve(await this.#execute());
    } catch (error) {
      throw await this.#toBullError(error);
    }
  }

  /** A non-Node client may have set no attempts: each job gets at least those of the retry policy. */
  #applyRetryPolicy(): void {
    const { attempts = 1, backoff } = JOB_OPTIONS[this.#handler.queue];
    // Release jobs are published by workers and operators, with the attempts of their settings.
    if (this.#handler.queue === 'lease-release' || (this.#job.opts.attempts ?? 1) >= attempts) return;
    this.#job.opts = { ...this.#job.opts, attempts, ...(backoff === undefined ? {} : { backoff }) };
  }

  async #execute(): Promise<OperationOutcome> {
    const { quarantine, committer } = this.#options;
    if (!quarantine.isQuarantined(this.#job)) return this.#handle(committer);
    const recoveries = this.#job.stalledCounter;
    this.#logger.debug({ event: 'job_quarantined', recoveries }, 'job quarantined');
    return quarantine.runIsolated(this.#job, () => this.#handle({ ...committer, submit: committer.submitIsolated }));
  }

  async #handle(dependencies: HandlerDependencies): Promise<OperationOutcome> {
    const parsed = this.#handler.schema.safeParse(this.#job.data);
    if (!parsed.success) return this.#reject({ code: 'invalid_payload', reason: z.prettifyError(parsed.error) });
    try {
      return await this.#handler.handle(dependencies, parsed.data, this.#attempt);
    } catch (error) {
      if (kindOfSqlError(error) !== 'rejected') throw error;
      return this.#reject({ code: 'not_storable', reason: describeError(error) });
    }
  }

  async #reject({ code, reason }: Rejection): Promise<OperationOutcome> {
    const rejection = { code, reason: storableReason(reason) };
    await this.#handler.onRejected?.(this.#options.committer, this.#job.data, rejection);
    return { kind: 'rejected', rejection };
  }

  async #resolve(outcome: OperationOutcome): Promise<unknown> {
    switch (outcome.kind) {
      case 'done':
        if (this.#options.logger.isLevelEnabled('debug')) {
          this.#logger.debug({ event: 'job_completed', lease: leaseOf(outcome.result) }, 'job completed');
        }
        return outcome.result;
      case 'rejected':
        this.#logger.warn({ event: 'job_rejected', ...outcome.rejection }, 'job rejected');
        throw new UnrecoverableError(formatRejection(outcome.rejection));
      case 'waiting': {
        const { heldBy, since } = outcome;
        this.#logger.debug({ event: 'job_waiting', heldBy, since }, 'job waiting for execution workspace');
        // Operators see the progress in the console.
        await this.#job.updateProgress({ waitingSince: since, heldBy });
        return this.#delay(this.#options.waitDelayMs());
      }
      case 'snoozed':
        this.#logger.debug({ event: 'job_snoozed', reason: outcome.reason }, 'job snoozed');
        return this.#delay(this.#options.snoozeDelayMs(this.#job.attemptsStarted));
      case 'unavailable':
        throw new Error(outcome.reason);
      case 'acquiring':
      case 'cleaning':
        break;
    }
    throw new Error(`the handler of ${this.#handler.queue} returned the intermediate outcome ${outcome.kind}`);
  }

  async #delay(milliseconds: number): Promise<never> {
    await this.#job.moveToDelayed(this.#options.now() + milliseconds, this.#token);
    throw new DelayedError();
  }

  async #toBullError(error: unknown): Promise<Error> {
    if (error instanceof WorkerStoppingError) {
      await this.#job.moveToWait(this.#token);
      return new WaitingError();
    }
    if (error instanceof DelayedError) return error;
    // A rejection is the message's fault and has been logged; every other failure is the operator's to look into.
    const isRejection = error instanceof UnrecoverableError && !(error instanceof PoisonPillError);
    if (!isRejection) this.#logFailure(error);
    return error instanceof UnrecoverableError ? error : new Error(describeError(error));
  }

  #logFailure(error: unknown): void {
    const details = { err: error, attempt: this.#attempt.number, attempts: this.#job.opts.attempts };
    if (isFinalFailure(error, this.#attempt)) this.#logger.error({ event: 'job_failed', ...details }, 'job failed');
    else this.#logger.warn({ event: 'job_attempt_failed', ...details }, 'job attempt failed');
  }

  get #attempt(): Attempt {
    const { attemptsMade, opts } = this.#job;
    return { number: attemptsMade + 1, isLast: attemptsMade + 1 >= (opts.attempts ?? 1) };
  }

  /** Created per line: pino serializes the bindings of a child when it is created, which most attempts need not pay. */
  get #logger(): Logger {
    return this.#options.logger.child({ queue: this.#handler.queue, job: this.#job.id, ...runOf(this.#job.data) });
  }
}

/** Whether BullMQ moves the job to the failed set, where it stays until an operator retries it. */
function isFinalFailure(error: unknown, attempt: Attempt): boolean {
  return attempt.isLast || error instanceof UnrecoverableError;
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
