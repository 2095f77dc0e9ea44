import type { z } from 'zod';
import { metadataSchema, parse } from '../../contracts/index.ts';
import type { EnvironmentDriver, LeasePolicy, Metadata } from '../../contracts/index.ts';
import { sshConfigSchema } from '../../ssh/config.ts';

/**
 * The control half of a driver with effects outside Postgres: it runs in workers. Its counterpart, which executes
 * commands, is the `ExecutionDriver` of `src/execution`.
 *
 * A call is repeated after a crash, possibly by another replica: it must be idempotent, and must stop soon after its
 * signal is aborted. Failures are thrown as `EnvironmentFailedError`, whose message is stored on the lease; any other error
 * is reported as `driver_failed`.
 */
export interface ControlDriver<Config = unknown> {
  readonly name: EnvironmentDriver;
  /** Strict; secrets only by reference or sealed, since the config is stored and given to every holder of a lease. */
  readonly configSchema: z.ZodType<Config>;
  /** Checks whether a lease could be acquired now. Failed checks are reported, not thrown. */
  probe(environment: DriverEnvironment<Config>, call: DriverCall): Promise<ProbeReport>;
  /** Prepares what a run needs on the environment. */
  acquire(request: AcquireRequest<Config>, call: DriverCall): Promise<Acquisition>;
  /**
   * Ends what the run left running and removes what {@link ControlDriver.acquire} made, or the part of it that was made
   * before a crash. Resolves also when nothing is left.
   */
  release(request: ReleaseRequest<Config>, call: DriverCall): Promise<void>;
  /** Closes connections that are kept between calls. */
  close?(): Promise<void>;
}

/** Limit of one driver call, in milliseconds. */
export const DRIVER_CALL_TIMEOUT_MS = 60_000;

/** Bounds of an acquisition by a driver, in seconds. */
export const ACQUISITION_LIMITS = {
  /** An acquirer without a result is considered dead after its call's timeout and the time to notice the abort. */
  acquiringSeconds: 75,
  /**
   * An unchanged pending lease is considered abandoned after more than one attempt and the longest delay between two of
   * them. Until then no other run can get what it holds.
   */
  pendingSeconds: 180,
} as const;

/** The environment that a driver acts on. */
export interface DriverEnvironment<Config> {
  id: string;
  companyId: string;
  config: Config;
}

/** Context of every driver call. */
export interface DriverCall {
  /** Aborted when the call takes too long or the worker stops. */
  signal: AbortSignal;
}

/** A lease to acquire. */
export interface AcquireRequest<Config> {
  environment: DriverEnvironment<Config>;
  leaseId: string;
  leasePolicy: LeasePolicy;
  executionWorkspaceId: string | null;
  /** What an earlier lease of the same scope left for this one to reuse; null when it starts from nothing. */
  providerLeaseId: string | null;
}

/** The result of an acquisition. */
export interface Acquisition {
  /** The driver's own id of it, unique on the environment; a later lease that reuses it is given this id. */
  providerLeaseId: string;
}

/** A lease to clean up after. */
export interface ReleaseRequest<Config> {
  environment: DriverEnvironment<Config>;
  leaseId: string;
  /** Null when the lease ended before its acquisition was recorded: something can exist all the same. */
  providerLeaseId: string | null;
}

/** The checks of a probe, up to the first one that failed. */
export interface ProbeReport {
  checks: ProbeCheck[];
  /** Duration of one round trip to the environment, in milliseconds; null when it was not reached. */
  latencyMs: number | null;
}

/** One check of a probe. */
export interface ProbeCheck {
  /** What was checked, in a word or two. */
  name: string;
  ok: boolean;
  /** The finding, or what failed and how to fix it. */
  detail: string;
}

/** The config schema of a driver's environments. */
export type DriverConfigSchema = Pick<ControlDriver, 'name' | 'configSchema'>;

/** Schemas of the drivers that come with Lessor. The config of `Local` belongs to its owner and is not validated. */
const BUILT_IN_SCHEMAS: readonly DriverConfigSchema[] = [{ name: 'ssh', configSchema: sshConfigSchema }];

/** Validates configs of environments before they are stored. */
export class DriverConfigs {
  readonly #schemas: ReadonlyMap<EnvironmentDriver, DriverConfigSchema['configSchema']>;

  /** @param drivers of the service; one named `ssh` replaces Lessor's */
  constructor(drivers: readonly DriverConfigSchema[] = []) {
    this.#schemas = new Map([...BUILT_IN_SCHEMAS, ...drivers].map(({ name, configSchema }) => [name, configSchema]));
  }

  /**
   * The config to store, with its defaults.
   * @throws {InvalidPayloadError} that names each invalid field and repeats no value
   */
  parse(driver: EnvironmentDriver, config: Metadata): Metadata {
    const schema = this.#schemas.get(driver);
    if (schema === undefined) return config;
    return parse(metadataSchema, parse(schema, config, `config of an environment of the kind ${driver}`), 'config');
  }
}
