import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { EnvironmentFailedError } from '../contracts/index.ts';
import type { EnvironmentDriver, GrantedLease } from '../contracts/index.ts';
import { DRIVER_CALL_LIMIT_MS } from '../environments/acquisition-limits.ts';
import type { Acquisition, ControlDriver, DriverCall, DriverEnvironment } from '../environments/drivers/driver.ts';
import { DriverSlots } from './driver-slots.ts';
import type { DriverSlotLimits } from './driver-slots.ts';
import { WorkerStoppingError } from './database-outage.ts';

/** What drivers are called with. */
export interface DriverCallsOptions {
  drivers: readonly ControlDriver[];
  slots: DriverSlotLimits;
  /** Aborted when the worker may wait no longer. */
  stopping: AbortSignal;
  /** How long one call may take; default a minute. */
  limitMs?: number | undefined;
}

/** How a call of a driver came out. */
export type DriverOutcome<Result> =
  | { ok: true; result: Result }
  /** `isOver` is false for a call that does not heed its signal: what it does it may still do. */
  | { ok: false; error: EnvironmentFailedError; isOver: boolean };

/** A call that was aborted has this long to come to its end. */
const GRACE_MS = 5_000;

/** Calls the drivers of a replica: each within a time limit, and not too many at once. */
export class DriverCalls {
  readonly #drivers: ReadonlyMap<string, ControlDriver>;
  readonly #slots: DriverSlots;
  readonly #stopping: AbortSignal;
  readonly #limitMs: number;

  constructor({ drivers, slots, stopping, limitMs = DRIVER_CALL_LIMIT_MS }: DriverCallsOptions) {
    this.#drivers = new Map(drivers.map((driver) => [driver.name, driver]));
    this.#slots = new DriverSlots(slots);
    this.#stopping = stopping;
    this.#limitMs = limitMs;
  }

  /** The kinds of environment that the replica has drivers for. */
  get names(): ReadonlySet<EnvironmentDriver> {
    return new Set([...this.#drivers.values()].map((driver) => driver.name));
  }

  /**
   * Does work for which a driver is called, in a slot of the environment's; undefined when none is free.
   * @throws {WorkerStoppingError} when the worker stops meanwhile
   */
  async inSlot<Result>(environmentId: string, work: () => Promise<Result>): Promise<Result | undefined> {
    const giveBack = this.#slots.take(environmentId);
    if (giveBack === undefined) return undefined;
    try {
      return await work();
    } finally {
      giveBack();
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
    what: 'acquire' | 'release',
    work: (driver: ControlDriver, environment: DriverEnvironment<unknown>, call: DriverCall) => Promise<Result>,
  ): Promise<DriverOutcome<Result>> {
    if (this.#stopping.aborted) throw stopped();
    const driver = this.#drivers.get(name);
    if (driver === undefined) return { ok: false, error: withoutDriver(name, lease), isOver: true };
    const { id } = lease.environment;
    const config = driver.configSchema.safeParse(lease.config);
    if (!config.success) return { ok: false, error: misconfigured(id, config.error), isOver: true };

    const limit = AbortSignal.timeout(this.#limitMs);
    const signal = AbortSignal.any([limit, this.#stopping]);
    const call = settle(() => work(driver, { id, companyId: lease.companyId, config: config.data }, { signal }));
    const settled = await Promise.race([call, overdue(signal)]);
    if (settled.ok) return settled;
    if (this.#stopping.aborted) throw stopped();
    const error = limit.aborted ? timedOut(name, what, lease, this.#limitMs) : toFailure(settled.error, name, what);
    return { ok: false, error, isOver: settled !== NOT_OVER };
  }
}

type Settled<Result> = { ok: true; result: Result } | { ok: false; error: unknown };

const NOT_OVER = { ok: false, error: undefined } as const;

async function settle<Result>(work: () => Promise<Result>): Promise<Settled<Result>> {
  try {
    return { ok: true, result: await work() };
  } catch (error) {
    return { ok: false, error };
  }
}

/** Resolves when a call that was aborted should have come to its end. */
async function overdue(signal: AbortSignal): Promise<typeof NOT_OVER> {
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await sleep(GRACE_MS, undefined, { ref: false });
  return NOT_OVER;
}

function stopped(): WorkerStoppingError {
  return new WorkerStoppingError('the worker stopped before a driver had answered');
}

function withoutDriver(name: string, { id }: GrantedLease): EnvironmentFailedError {
  return new EnvironmentFailedError('driver_failed', `lease ${id} needs the driver ${name}, which this worker lacks`);
}

function misconfigured(environmentId: string, error: z.ZodError): EnvironmentFailedError {
  const problems = error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');
  return new EnvironmentFailedError(
    'driver_failed',
    `the config of environment ${environmentId} is wrong: ${problems}`,
  );
}

function timedOut(name: string, what: string, { id }: GrantedLease, limitMs: number): EnvironmentFailedError {
  const message = `the driver ${name} did not ${what} lease ${id} within ${limitMs} ms; is its host overloaded?`;
  return new EnvironmentFailedError('environment_unreachable', message);
}

/** What a driver threw: the errors made for it speak for themselves. */
function toFailure(error: unknown, name: string, what: string): EnvironmentFailedError {
  if (error instanceof EnvironmentFailedError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  const message = `the driver ${name} failed to ${what}: ${detail || 'it gave no reason'}`;
  return new EnvironmentFailedError('driver_failed', message, { cause: error });
}
