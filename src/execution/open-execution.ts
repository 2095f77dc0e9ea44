import { LessorError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import { createSecretResolver } from '../secrets/resolver.ts';
import type { Execution, ExecutionDriver, ExecutionOptions } from './driver.ts';
import { createLocalExecutionDriver } from './local-driver.ts';
import { createSshExecutionDriver } from './ssh/ssh-driver.ts';

/** What an execution is opened with, and by what. */
export interface OpenExecutionOptions extends ExecutionOptions {
  /** Default {@link executionDrivers} with the variables of this process. */
  drivers?: readonly ExecutionDriver[] | undefined;
}

/** No driver here knows the kind of environment that a lease is on. */
export class UnknownExecutionDriverError extends LessorError {
  constructor({ id, environment }: GrantedLease, drivers: readonly ExecutionDriver[]) {
    super(
      'driver_unavailable',
      `lease ${id} is on an environment of the driver ${environment.driver}, and commands can be executed here on ` +
        `${drivers.map(({ name }) => name).join(' and ') || 'none'} only`,
    );
  }
}

/**
 * The drivers that come with Lessor: `local` and `ssh`.
 * @param env what commands on `local` are given, and what secrets are got from: variables that environments refer to,
 * and `LESSOR_SECRET_KEY`, which no command is given: it opens what is sealed of every company
 * @throws {InvalidConfigurationError} when LESSOR_SECRET_KEY is no key
 */
export function executionDrivers(env: Readonly<Record<string, string | undefined>>): ExecutionDriver[] {
  const { LESSOR_SECRET_KEY: secretKey, ...ofCommands } = env;
  const secrets = createSecretResolver({ env, secretKey });
  return [createLocalExecutionDriver({ env: ofCommands }), createSshExecutionDriver({ secrets })];
}

/**
 * Opens the place that a lease gives its run.
 * @throws {UnknownExecutionDriverError}
 * @throws {EnvironmentFailedError} when the environment cannot be reached or does not let anybody in
 */
export async function openExecution(lease: GrantedLease, options: OpenExecutionOptions): Promise<Execution> {
  const { drivers = executionDrivers(process.env), ...executionOptions } = options;
  const driver = drivers.find(({ name }) => name === lease.environment.driver);
  if (driver === undefined) throw new UnknownExecutionDriverError(lease, drivers);
  return driver.open(lease, executionOptions);
}
