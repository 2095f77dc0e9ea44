import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';

/**
 * The provider whose leases have no effects outside Postgres: writing the row is all that acquiring, releasing and
 * reviving one takes. Leases of every other provider are acquired and cleaned up after by a driver, or by the service
 * that provisioned them.
 */
const PROVIDER_WITHOUT_EXTERNAL_EFFECTS = 'local';

/** Whether acquiring and cleaning up after a lease takes more than writing its row. */
export function hasExternalEffects(provider: string): boolean {
  return provider !== PROVIDER_WITHOUT_EXTERNAL_EFFECTS;
}

/** {@link hasExternalEffects} in SQL, of the provider of a lease or the driver of an environment. */
export function hasExternalEffectsSql(provider: 'lease.provider' | 'environment.driver'): SQL {
  return sql.raw(`${provider} is distinct from '${PROVIDER_WITHOUT_EXTERNAL_EFFECTS}'`);
}
