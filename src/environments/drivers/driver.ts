import type { z } from 'zod';
import type { EnvironmentDriver, LeasePolicy } from '../../contracts/index.ts';

/**
 * The control half of a driver with effects outside Postgres: it runs in workers. Its counterpart, which executes
 * commands, is the `ExecutionDriver` of `src/execution`.
 *
 * Every call is repeated after a crash, and may be made by another replica then: it must be idempotent, and must stop
 * soon after its signal is aborted. What goes wrong is thrown as an `EnvironmentFailedError`, whose message is stored on the
 * lease; any other error is reported as `driver_failed`.
 */
export interface ControlDriver<Config = unknown> {
  readonly name: EnvironmentDriver;
  /** Strict, secrets in it only by reference or sealed: what it accepts is stored and handed to whoever holds a lease. */
  readonly configSchema: z.ZodType<Config>;
  /** Tells whether a lease could be acquired now, and what stands in the way. What fails is reported, not thrown. */
  probe(environment: DriverEnvironment<Config>, call: DriverCall): Promise<ProbeReport>;
  /** Prepares the place that a run is to have on the environment. */
  acquire(request: AcquireRequest<Config>, call: DriverCall): Promise<Acquisition>;
  /**
   * Ends what the run has left running and removes what {@link ControlDriver.acquire} made, or the part of it that was
   * made before a crash. Resolves as well when nothing is there any more.
   */
  release(request: ReleaseRequest<Config>, call: DriverCall): Promise<void>;
  /** Closes connections that are kept between calls. */
  close?(): Promise<void>;
}

/** The environment that a driver is to act on. */
export interface DriverEnvironment<Config> {
  id: string;
  companyId: string;
  config: Config;
}

/** What every call of a driver is given. */
export interface DriverCall {
  /** Aborted when the call has taken too long, or the worker stops. */
  signal: AbortSignal;
}

/** A lease to be acquired. */
export interface AcquireRequest<Config> {
  environment: DriverEnvironment<Config>;
  leaseId: string;
  leasePolicy: LeasePolicy;
  executionWorkspaceId: string | null;
  /** What an earlier lease of the same scope left for this one to take over; null when it starts from nothing. */
  providerLeaseId: string | null;
}

/** What a driver acquired. */
export interface Acquisition {
  /** What the driver calls it, unique on the environment; a lease that takes it over later is given it. */
  providerLeaseId: string;
}

/** A lease to be cleaned up after. */
export interface ReleaseRequest<Config> {
  environment: DriverEnvironment<Config>;
  leaseId: string;
  /** Null when the lease ended before its acquisition was recorded: something may be there all the same. */
  providerLeaseId: string | null;
}

/** What a probe found, step by step, up to the first one that failed. */
export interface ProbeReport {
  checks: ProbeCheck[];
  /** Of one round trip to the environment, in milliseconds; null when it was not reached. */
  latencyMs: number | null;
}

/** One step of a probe. */
export interface ProbeCheck {
  /** What was looked at, in a word or two. */
  name: string;
  ok: boolean;
  /** What was found, or what failed and what to do about it. */
  detail: string;
}
