import { setTimeout as sleep } from 'node:timers/promises';
import { LeaseLostError, QueueUnreachableError, RunEndedError, storableReason } from '../contracts/index.ts';
import type { GrantedLease, TerminalRunStatus } from '../contracts/index.ts';
import { messageOf, settle } from '../lib/errors.ts';
import type { Settled } from '../lib/errors.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import type { HeartbeatProducer, RunStart } from './producer.ts';

/** How a run ended, as `run-finished` carries it. */
export interface RunOutcome {
  status: TerminalRunStatus;
  failureReason?: string;
}

/** Options of {@link withLease}. */
export interface WithLeaseOptions<Result> {
  /**
   * How long to wait for the lease, in milliseconds; default 330000, a little longer than workers let a run wait for
   * its execution workspace.
   */
  leaseWaitMs?: number;
  /** Cancels the run: the work's signal is aborted, and the run ends as `cancelled`. */
  signal?: AbortSignal;
  /** Time limit of the work, in milliseconds. After it the signal is aborted, and the run ends as `timed_out`. */
  timeoutMs?: number;
  /**
   * How long publishing the end is retried while the queue is unreachable, in milliseconds. Default: the lease's ttl,
   * after which the sweep ends it, but at least 30 s and at most 5 min.
   */
  endTimeoutMs?: number;
  /** The outcome of work that returned; default `succeeded`. */
  outcomeOf?: (result: Result) => RunOutcome;
  /** Source of the renewals' jitter, from 0 to 1; default `Math.random`. */
  random?: () => number;
}

/** The reason of the work's signal when its time limit has passed. */
export class RunTimedOutError extends Error {
  override readonly name = 'RunTimedOutError';

  constructor(timeoutMs: number) {
    super(`the run took longer than the ${timeoutMs} ms it was given`);
  }
}

const DEFAULT_LEASE_WAIT_MS = 330_000;
const MIN_END_TIMEOUT_MS = 30_000;
const MAX_END_TIMEOUT_MS = 300_000;
const PUBLISH_RETRY_MS = 500;

/**
 * Runs work under a lease: publishes the run's start, waits for the lease, renews it in the background at a third of
 * its ttl, and always publishes the run's end: `succeeded`, `failed` with the message of what was thrown,
 * `cancelled` when `options.signal` was aborted, `timed_out` past `options.timeoutMs`.
 *
 * The signal given to the work is aborted when the lease is lost, some time before another run could be given the
 * execution workspace: work must stop then.
 *
 * @returns what the work returns
 * @throws what the work throws, or what {@link HeartbeatProducer.waitForLease} does
 * @throws {LeaseLostError} when the lease was lost, even if the work returned
 * @throws {QueueUnreachableError} when the start, or within `endTimeoutMs` the end, could not be published
 */
export async function withLease<Result>(
  producer: HeartbeatProducer,
  run: RunStart,
  work: (lease: GrantedLease, signal: AbortSignal) => Promise<Result>,
  options: WithLeaseOptions<Result> = {},
): Promise<Result> {
  const requested = { at: performance.now(), date: new Date() };
  await producer.runStarted(run);

  const keeper = new LeaseKeeper(producer, options.random ?? Math.random);
  const timeLimit = new TimeLimit(options.timeoutMs);
  const signal = AbortSignal.any([keeper.lost, timeLimit.signal, ...(options.signal ? [options.signal] : [])]);
  let endTimeoutMs = options.endTimeoutMs ?? MIN_END_TIMEOUT_MS;
  const settled = await settle(async () => {
    const { leaseWaitMs: timeoutMs = DEFAULT_LEASE_WAIT_MS } = options;
    const lease = await producer.waitForLease(run.runId, { timeoutMs, signal });
    endTimeoutMs = options.endTimeoutMs ?? endTimeoutOf(lease);
    await keeper.keep(lease, requested);
    timeLimit.start();
    const result = await work(lease, signal);
    if (signal.reason instanceof LeaseLostError) throw signal.reason;
    return result;
  });
  const outcome = outcomeOf(settled, signal, options);
  keeper.stop();
  timeLimit.stop();

  await publishEnd(producer, run, outcome, settled, endTimeoutMs);
  if (!settled.ok) throw settled.error;
  return settled.result;
}

function endTimeoutOf({ ttlSeconds }: GrantedLease): number {
  return Math.min(Math.max(ttlSeconds * 1_000, MIN_END_TIMEOUT_MS), MAX_END_TIMEOUT_MS);
}

/** The reason for which the work was stopped takes precedence over its own result. */
function outcomeOf<Result>(
  settled: Settled<Result>,
  signal: AbortSignal,
  options: WithLeaseOptions<Result>,
): RunOutcome {
  if (signal.reason instanceof LeaseLostError)
    return { status: 'failed', failureReason: failureReasonOf(signal.reason) };
  if (signal.reason instanceof RunTimedOutError)
    return { status: 'timed_out', failureReason: failureReasonOf(signal.reason) };
  if (signal.aborted) return { status: 'cancelled' };
  if (!settled.ok) return { status: 'failed', failureReason: failureReasonOf(settled.error) };
  return options.outcomeOf?.(settled.result) ?? { status: 'succeeded' };
}

function failureReasonOf(error: unknown): string {
  return storableReason(messageOf(error)) || 'the work threw an error without a message';
}

/** Retries while the queue is unreachable, until the timeout. A run that had ended before needs no end. */
async function publishEnd(
  producer: HeartbeatProducer,
  { companyId, runId }: RunStart,
  outcome: RunOutcome,
  settled: Settled<unknown>,
  timeoutMs: number,
): Promise<void> {
  if (!settled.ok && settled.error instanceof RunEndedError) return;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      await producer.runFinished({ companyId, runId, ...outcome });
      return;
    } catch (error) {
      if (error instanceof QueueUnreachableError && performance.now() < deadline) {
        await sleep(PUBLISH_RETRY_MS);
        continue;
      }
      if (settled.ok) throw error;
      throw new AggregateError([settled.error, error], 'the work failed, and the end of its run was not published', {
        cause: error,
      });
    }
  }
}

/** A time limit that starts with the work. */
class TimeLimit {
  readonly #timeoutMs: number | undefined;
  readonly #passed = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(timeoutMs: number | undefined) {
    this.#timeoutMs = timeoutMs;
  }

  get signal(): AbortSignal {
    return this.#passed.signal;
  }

  start(): void {
    const timeoutMs = this.#timeoutMs;
    if (timeoutMs === undefined) return;
    this.#timer = setTimeout(() => this.#passed.abort(new RunTimedOutError(timeoutMs)), timeoutMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
