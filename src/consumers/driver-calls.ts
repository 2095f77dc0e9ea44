import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { EnvironmentFailedError } from '../contracts/index.ts';
import type { EnvironmentDriver, GrantedLease } from '../contracts/index.ts';
import { DRIVER_CALL_TIMEOUT_MS } from '../environments/drivers/driver.ts';
import type { Acquisition, ControlDriver, DriverCall, DriverEnvironment } from '../environments/drivers/driver.ts';
import { messageOf, settle } from '../lib/errors.ts';
import { WorkerStoppingError } from './database-outage.ts';

/** How many driver calls of one replica may be in flight. */
export interface DriverConcurrency {
  total: number;
  perEnvironment: number;
}

/** What drivers are called with. */
export interface DriverCallsOptions {
  drivers: readonly ControlDriver[];
  concurrency: DriverConcurrency;
  /** Aborted when the worker may wait no longer. */
  stopping: AbortSignal;
  /** How long one call may take; default one minute. */
  timeoutMs?: number | undefined;
}

/** The outcome of a driver call. */
export type DriverOutcome<Result> =
  | { ok: true; result: Result }
  /** `isOver` is false for a call that ignored its abort signal: it may still have effects. */
  | { ok: false; error: EnvironmentFailedError; isOver: boolean };

/** How long an aborted call may take to end. */
const ABORT_GRACE_MS = 5_000;

/** Calls the drivers of a replica, each call within a time limit and within the limits of concurrency. */
export class DriverCalls {
  readonly #drivers: ReadonlyMap<string, ControlDriver>;
  readonly #permits: DriverPermits;
  readonly #stopping: AbortSignal;
  readonly #timeoutMs: number;

  constructor({ drivers, concurrency, stopping, timeoutMs = DRIVER_CALL_TIMEOUT_MS }: DriverCallsOptions) {
    this.#drivers = new Map(drivers.map((driver) => [driver.name, driver]));
    this.#permits = new DriverPermits(concurrency);
    this.#stopping = stopping;
    this.#timeoutMs = timeoutMs;
  }

  /** The kinds of environment that the replica has drivers for. */
  get names(): ReadonlySet<EnvironmentDriver> {
    return new Set([...this.#drivers.values()].map((driver) => driver.name));
  }

  /**
   * Runs work that calls a driver, holding a permit of the environment; returns undefined when none is free.
   * @throws {WorkerStoppingError} when the worker stops meanwhile
   */
  async withPermit<Result>(environmentId: string, work: () => Promise<Result>): Promise<Result | undefined> {
    const release = this.#permits.tryAcquire(environmentId);
    if (release === undefined) return undefined;
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** Has the driver of its environment acquire a pending lease. */
  acquire(lease: GrantedLease): Promise<DriverOutcome<Acquisition>> {
    const { id: leaseId, leasePolicy, executionWorkspaceId, providerLeaseId } = lease;
    return this.#call(lease.environment.driver, lease, 'acquire', (driver, environment, call) =>
      driver.acquire({ environment, leaseId, leasePolicy, executionWorkspaceId, providerLeaseId }, call),
    );
  }

  /** Has a driver clean up after a lease. */
  release(provider: string, lease: GrantedLease): Promise<DriverOutcome<void>> {
    const { id: leaseId, providerLeaseId } = lease;
    return this.#call(provider, lease, 'release', (driver, environment, call) =>
      driver.release({ environment, leaseId, providerLeaseId }, call),
    );
  }

  async #call<Result>(
    name: string,
    lease: GrantedLease,
    action: 'acquire' | 'release',
    work: (driver: ControlDriver, environment: DriverEnvironment<unknown>, call: DriverCall) => Promise<Result>,
  ): Promise<DriverOutcome<Result>> {
    if (this.#stopping.aborted) throw stopped();
    const driver = this.#drivers.get(name);
    if (driver === undefined) return { ok: false, error: missingDriver(name, lease), isOver: true };
    const { id } = lease.environment;
    const config = driver.configSchema.safeParse(lease.config);
    if (!config.success) return { ok: false, error: invalidConfig(id, config.error), isOver: true };

    const timeout = AbortSignal.timeout(this.#timeoutMs);
    const signal = AbortSignal.any([timeout, this.#stopping]);
    const call = settle(() => work(driver, { id, companyId: lease.companyId, config: config.data }, { signal }));
    const settled = await Promise.race([call, graceElapsed(signal)]);
    if (settled.ok) return settled;
    if (this.#stopping.aborted) throw stopped();
    const error = timeout.aborted
      ? timedOut(name, action, lease, this.#timeoutMs)
      : toFailure(settled.error, name, action);
    return { ok: false, error, isOver: settled !== NOT_OVER };
  }
}

/**
 * A semaphore in total and one per environment. Nobody waits for a permit: a job that gets none is snoozed, so that jobs
 * of a slow host never hold the worker's concurrency (isolated).
 */
class DriverPermits {
  readonly #limits: DriverConcurrency;
  readonly #heldByEnvironment = new Map<string, number>();
  #held = 0;

  constructor(limits: DriverConcurrency) {
    this.#limits = limits;
  }

  /** Returns the function that releases the permit; undefined when none is free. */
  tryAcquire(environmentId: string): (() => void) | undefined {
    const held = this.#heldByEnvironment.get(environmentId) ?? 0;
    if (this.#held >= this.#limits.total || held >= this.#limits.perEnvironment) return undefined;
    this.#held += 1;
    this.#heldByEnvironment.set(environmentId, held + 1);
    return () => this.#release(environmentId);
  }

  #release(environmentId: string): void {
    this.#held -= 1;
    const held = this.#heldByEnvironment.get(environmentId)! - 1;
    if (held === 0) this.#heldByEnvironment.delete(environmentId);
    else this.#heldByEnvironment.set(environmentId, held);
  }
}

const NOT_OVER = { ok: false, error: undefined } as const;

/** Resolves when an aborted call should have ended. */
async function graceElapsed(signal: AbortSignal): Promise<typeof NOT_OVER> {
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await sleep(ABORT_GRACE_MS, undefined, { ref: false });
  return NOT_OVER;
}

function stopped(): WorkerStoppingError {
  return new WorkerStoppingError('the worker stopped before a driver had answered');
}

function missingDriver(name: string, { id }: GrantedLease): EnvironmentFailedError {
  return new EnvironmentFailedError('driver_failed', `lease ${id} needs the driver ${name}, which this worker lacks`);
}

function invalidConfig(environmentId: string, error: z.ZodError): EnvironmentFailedError {
  const problems = error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');
  return new EnvironmentFailedError(
    'driver_failed',
    `the config of environment ${environmentId} is invalid: ${problems}`,
  );
}

function timedOut(name: string, action: string, { id }: GrantedLease, timeoutMs: number): EnvironmentFailedError {
  const message = `the driver ${name} did not ${action} lease ${id} within ${timeoutMs} ms; is its host overloaded?`;
  return new EnvironmentFailedError('environment_unreachable', message);
}

/** Errors that a driver throws on purpose keep their code. */
function toFailure(error: unknown, name: string, action: string): EnvironmentFailedError {
  if (error instanceof EnvironmentFailedError) return error;
  const message = `the driver ${name} failed to ${action}: ${messageOf(error) || 'it gave no reason'}`;
  return new EnvironmentFailedError('driver_failed', message, { cause: error });
}
