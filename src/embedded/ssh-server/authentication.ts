import { timingSafeEqual } from 'node:crypto';
import ssh2, { type AuthContext, type Connection, type ParsedKey, type PublicKeyAuthContext } from 'ssh2';
import type { KeyPair } from './keys.ts';

/** As sshd's MaxAuthTries. */
const MAX_ATTEMPTS = 6;

export interface AcceptedLogin {
  readonly username: string;
  readonly clientKey: KeyPair;
}

/** Lets in one user by one key, and nobody else by anything. */
export function authenticate(connection: Connection, { username, clientKey }: AcceptedLogin): void {
  const accepted = ssh2.utils.parseKey(clientKey.public);
  if (accepted instanceof Error) throw accepted;
  let attempts = 0;
  connection.on('authentication', (context) => {
    if (context.username === username && isBy(accepted, context)) return context.accept();
    // The method "none" asks which ones there are.
    if (context.method !== 'none') attempts += 1;
    context.reject(['publickey']);
    if (attempts >= MAX_ATTEMPTS) connection.end();
  });
}

function isBy(accepted: ParsedKey, context: AuthContext): context is PublicKeyAuthContext {
  if (context.method !== 'publickey') return false;
  const { key, signature, blob, hashAlgo } = context;
  const expected = accepted.getPublicSSH();
  const same = key.algo === accepted.type && key.data.length === expected.length && timingSafeEqual(key.data, expected);
  // Without a signature the client asks whether it is worth making one.
  if (!same || !signature) return same;
  // An error is returned, not thrown, whatever the types say.
  const verified: unknown = blob && accepted.verify(blob, signature, hashAlgo);
  return verified === true;
}
