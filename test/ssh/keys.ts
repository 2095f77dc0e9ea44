import ssh2 from 'ssh2';

const generators = {
  ed25519: () => ssh2.utils.generateKeyPairSync('ed25519'),
  'ecdsa-256': () => ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 }),
  'ecdsa-521': () => ssh2.utils.generateKeyPairSync('ecdsa', { bits: 521 }),
  rsa: () => ssh2.utils.generateKeyPairSync('rsa', { bits: 2048 }),
};

/** A pair of keys of a type. Of those that ssh2 makes, some cannot be read by anybody, and are thrown away. */
export function newKeyPair(type: keyof typeof generators = 'ed25519') {
  for (;;) {
    const pair = generators[type]();
    if (isReadable(pair.public) && isReadable(pair.private))
      return { private: pair.private, public: pair.public.trim() };
  }
}

/** A private key that only its passphrase opens. */
export function newProtectedKey(passphrase: string): string {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519', { passphrase, cipher: 'aes256-ctr', rounds: 1 });
    if (isReadable(pair.public) && isReadable(pair.private, passphrase)) return pair.private;
  }
}

function isReadable(key: string, passphrase?: string): boolean {
  return !(ssh2.utils.parseKey(key, passphrase) instanceof Error);
}
