import type { EnvironmentDriver } from '../../contracts/index.ts';

/** Drivers without effects outside Postgres: their leases are acquired and released by writing the row. */
const DRIVERS_WITHOUT_OUTSIDE_EFFECTS: readonly EnvironmentDriver[] = ['local'];

/** Whether this version can lease environments of the driver to runs. */
export function isLeasable(driver: EnvironmentDriver): boolean {
  return DRIVERS_WITHOUT_OUTSIDE_EFFECTS.includes(driver);
}
