import type { EnvironmentDriver } from '../../contracts/index.ts';

/** Drivers without effects outside Postgres: their leases are acquired and released by writing the row. */
const DRIVERS_WITHOUT_OUTSIDE_EFFECTS: readonly string[] = ['local'];

/** Whether this version can lease environments of the driver to runs. */
export function isLeasable(driver: EnvironmentDriver): boolean {
  return DRIVERS_WITHOUT_OUTSIDE_EFFECTS.includes(driver);
}

/** Whether there is nothing to clean up after a lease of the provider but its row. */
export function isWithoutOutsideEffects(provider: string): boolean {
  return DRIVERS_WITHOUT_OUTSIDE_EFFECTS.includes(provider);
}
