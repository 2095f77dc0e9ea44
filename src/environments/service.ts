import type { Db } from '../db/connection.ts';
import type { Actor } from '../db/statements/activity.ts';
import { DriverConfigs } from './drivers/config-schemas.ts';
import type { DriverConfigSchema } from './drivers/config-schemas.ts';
import { environmentRegister } from './environment-register.ts';
import type { EnvironmentRegister } from './environment-register.ts';
import { leaseRegister } from './lease-register.ts';
import type { LeaseRegister } from './lease-register.ts';

/** Options of {@link environmentService}. */
export interface EnvironmentServiceOptions {
  /** Who is told to have acted in the activity log; default `{ type: 'system', id: 'lessor' }`. */
  actor?: Actor;
  /** Drivers of the service's own, whose environments' configs are checked. Those of Lessor are known. */
  drivers?: readonly DriverConfigSchema[];
}

/** Environments and leases, for services that hold a database connection themselves. */
export type EnvironmentService = EnvironmentRegister & LeaseRegister;

/**
 * Environments and leases, for services that hold a database connection themselves: the same invariants and the same
 * activity events as through the queue.
 *
 * @param db from `createDb`, or a transaction open on one: what is done then commits or rolls back with it
 */
export function environmentService(db: Db, options: EnvironmentServiceOptions = {}): EnvironmentService {
  const actor = options.actor ?? { type: 'system', id: 'lessor' };
  const configs = new DriverConfigs(options.drivers);
  return { ...environmentRegister(db, actor, configs), ...leaseRegister(db, actor) };
}
