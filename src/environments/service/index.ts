import type { Db } from '../../db/connection.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { DriverConfigs } from '../drivers/driver.ts';
import type { DriverConfigSchema } from '../drivers/driver.ts';
import { environmentAdministration } from './environments.ts';
import type { EnvironmentAdministration } from './environments.ts';
import { leaseService } from './leases.ts';
import type { LeaseService } from './leases.ts';

/** Options of {@link environmentService}. */
export interface EnvironmentServiceOptions {
  /** The actor of the activity events; default `{ type: 'system', id: 'lessor' }`. */
  actor?: Actor;
  /** Drivers of the service's own, whose environments' configs are checked. Those of Lessor are known. */
  drivers?: readonly DriverConfigSchema[];
}

/** Environments and leases, for services that hold a database connection themselves. */
export type EnvironmentService = EnvironmentAdministration & LeaseService;

/**
 * Environments and leases, for services that hold a database connection themselves: the same invariants and the same
 * activity events as through the queue.
 *
 * @param db a drizzle database over node-postgres or postgres.js, such as from `createDb`, or a transaction open on one: its
 *   changes then commit or roll back with it
 */
export function environmentService(db: Db, options: EnvironmentServiceOptions = {}): EnvironmentService {
  const actor = options.actor ?? { type: 'system', id: 'lessor' };
  const configs = new DriverConfigs(options.drivers);
  return { ...environmentAdministration(db, actor, configs), ...leaseService(db, actor) };
}
