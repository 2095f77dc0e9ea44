import ssh2 from 'ssh2';
import type { ParsedKey } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { describeReference } from '../secrets/reference.ts';
import type { SecretReference } from '../secrets/reference.ts';
import type { SecretResolver } from '../secrets/resolver.ts';

/**
 * Gets and parses the private key that a config refers to.
 * @throws {EnvironmentFailedError} `secret_unavailable`, which tells nothing of what was found in place of a key
 */
export async function readPrivateKey(reference: SecretReference, secrets: SecretResolver): Promise<ParsedKey> {
  const text = await secrets.resolve(reference);
  const key = ssh2.utils.parseKey(text);
  if (!(key instanceof Error) && key.isPrivateKey()) return key;
  // Messages of the parser can repeat parts of what it was given, so none is passed on.
  const isEncrypted = key instanceof Error && /encrypted|passphrase/i.test(key.message);
  const detail = isEncrypted
    ? 'is protected by a passphrase, which nobody is there to type in; `ssh-keygen -p` removes it'
    : 'is not a private key in the format of OpenSSH, PEM or PuTTY';
  throw new EnvironmentFailedError('secret_unavailable', `what ${describeReference(reference)} holds ${detail}`);
}
