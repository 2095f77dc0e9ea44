import { randomUUID } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import ssh2 from 'ssh2';

/** A pair of keys: the private half in OpenSSH's format, the public half as a line of `authorized_keys`. */
export interface KeyPair {
  readonly private: string;
  readonly public: string;
}

/**
 * One in 256 pairs that ssh2 1.17 generates cannot be parsed, as it drops a public key's first zero byte
 * (https://github.com/mscdex/ssh2/issues/1390). Those are discarded.
 */
export function generateKeyPair(): KeyPair {
  for (;;) {
    const { private: privateKey, public: publicKey } = ssh2.utils.generateKeyPairSync('ed25519');
    if (!(ssh2.utils.parseKey(publicKey) instanceof Error)) return { private: privateKey, public: publicKey };
  }
}

/** Writes a private key that only its owner can read, replacing an earlier one atomically, and returns the path. */
export async function writePrivateKey(directory: string, name: string, key: KeyPair): Promise<string> {
  const path = join(directory, name);
  const staging = join(directory, `${name}-${randomUUID()}`);
  await writeFile(staging, key.private, { mode: 0o600, flag: 'wx' });
  await rename(staging, path);
  return path;
}

/** What a client has to put into `known_hosts` to trust this host key. */
export function knownHostsLine(host: string, port: number, hostKey: KeyPair): string {
  return `[${host}]:${port} ${hostKey.public.trim()}\n`;
}
