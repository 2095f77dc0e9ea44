import type { ControlDriver } from '../environments/drivers/driver.ts';
import { createSshDriver } from '../environments/drivers/ssh-driver.ts';
import { createSecretResolver } from '../secrets/resolver.ts';

/**
 * The control halves of the drivers that come with Lessor. Secrets of environments are got from the variables given, and
 * opened under LESSOR_SECRET_KEY, which is no flag, since those show in `ps`.
 * @throws {InvalidConfigurationError} when LESSOR_SECRET_KEY is set and no key
 */
export function createControlDrivers(env: NodeJS.ProcessEnv): ControlDriver[] {
  return [createSshDriver({ secrets: createSecretResolver({ env, secretKey: env['LESSOR_SECRET_KEY'] }) })];
}
