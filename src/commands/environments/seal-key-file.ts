import { resolve } from 'node:path';
import { InvalidConfigurationError } from '../../contracts/index.ts';
import type { SecretReference } from '../../secrets/reference.ts';
import { createSecretResolver } from '../../secrets/resolver.ts';
import { sealSecret } from '../../secrets/sealing.ts';
import { readPrivateKey } from '../../ssh/dial.ts';

/**
 * Seals the private key that a file holds, once it has turned out to be one.
 * @throws {InvalidConfigurationError} when LESSOR_SECRET_KEY is missing, or no key
 * @throws {EnvironmentFailedError} `secret_unavailable` when the file holds no private key that can be used
 */
export async function sealKeyFile(path: string, env: NodeJS.ProcessEnv): Promise<SecretReference> {
  const secretKey = env['LESSOR_SECRET_KEY'];
  if (secretKey === undefined || secretKey === '') {
    throw new InvalidConfigurationError(
      '--seal-private-key needs LESSOR_SECRET_KEY, which workers have as well; `openssl rand -base64 32` makes one',
    );
  }
  const secrets = createSecretResolver({ env, secretKey });
  const reference = `file:${resolve(path)}`;
  await readPrivateKey(reference, secrets);
  return sealSecret(await secrets.resolve(reference), secretKey);
}
