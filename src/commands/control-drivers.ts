import type { ControlDriver } from '../environments/drivers/driver.ts';
import { createSshDriver } from '../environments/drivers/ssh-driver.ts';
import { createSecretResolver } from '../secrets/resolver.ts';

/**
 * The control halves of the drivers that come with Lessor. Their secrets come from variables and files of this process, or
 * sealed from the config, which the key opens.
 * @throws {InvalidConfigurationError} when the key is not 32 bytes
 */
export function createControlDrivers(secretKey: string | undefined): ControlDriver[] {
  return [createSshDriver({ secrets: createSecretResolver({ env: process.env, secretKey }) })];
}
