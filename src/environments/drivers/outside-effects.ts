/** Drivers without effects outside Postgres: their leases are acquired and released by writing the row. */
const DRIVERS_WITHOUT_OUTSIDE_EFFECTS: readonly string[] = ['local'];

/** Whether there is nothing to do for a lease of the provider but to write its row. */
export function isWithoutOutsideEffects(provider: string): boolean {
  return DRIVERS_WITHOUT_OUTSIDE_EFFECTS.includes(provider);
}
