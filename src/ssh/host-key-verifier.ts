import type { ServerHostKeyAlgorithm } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { addressOf } from './config.ts';
import type { SshConfig } from './config.ts';
import { fingerprintOf, knownKeyTypes, parseKnownHosts, verifyHostKey } from './known-hosts.ts';
import type { HostKey, HostKeyVerification, KnownHost } from './known-hosts.ts';

/** Host key algorithms in OpenSSH's order of preference, each with the type of key it needs. */
const ALGORITHMS: readonly (readonly [ServerHostKeyAlgorithm, keyType: string])[] = [
  ['ssh-ed25519', 'ssh-ed25519'],
  ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp256'],
  ['ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp384'],
  ['ecdsa-sha2-nistp521', 'ecdsa-sha2-nistp521'],
  ['rsa-sha2-512', 'ssh-rsa'],
  ['rsa-sha2-256', 'ssh-rsa'],
];

/** How many known keys a rejection names at most. */
const MAXIMUM_KEYS_NAMED = 5;

/** Verifies the host key of one connection against the `knownHosts` of its config. */
export class HostKeyVerifier {
  /** Those of known keys come first, so that a host with keys of several types offers a known one. */
  readonly algorithms: ServerHostKeyAlgorithm[];
  readonly #config: SshConfig;
  readonly #knownHosts: KnownHost[];
  #rejection: EnvironmentFailedError | undefined;
  #accepted: HostKeyVerification | undefined;

  constructor(config: SshConfig) {
    this.#config = config;
    this.#knownHosts = parseKnownHosts(config.knownHosts ?? '');
    const known = knownKeyTypes(this.#knownHosts, config);
    const isKnown = ([, keyType]: (typeof ALGORITHMS)[number]) => known.includes(keyType);
    this.algorithms = [
      ...ALGORITHMS.filter((algorithm) => isKnown(algorithm)),
      ...ALGORITHMS.filter((algorithm) => !isKnown(algorithm)),
    ].map(([name]) => name);
  }

  /** Why the host key was rejected, once it was. */
  get rejection(): EnvironmentFailedError | undefined {
    return this.#rejection;
  }

  /** The accepted key and why it was accepted, for people. */
  get summary(): string {
    if (this.#accepted === undefined) return 'not verified';
    const { verdict, offered } = this.#accepted;
    if (verdict === 'trusted') return `${describeKey(offered)}, as knownHosts says`;
    return `${describeKey(offered)}, accepted unchecked, since strictHostKeyChecking is off (${verdict})`;
  }

  /** Verifies the key that the host offers. */
  accepts(blob: Buffer): boolean {
    const verification = verifyHostKey(this.#knownHosts, this.#config, blob);
    const { verdict } = verification;
    const isAccepted = verdict === 'trusted' || (verdict !== 'revoked' && !this.#config.strictHostKeyChecking);
    if (isAccepted) this.#accepted = verification;
    else this.#rejection = this.#reject(verification);
    return isAccepted;
  }

  #reject({ verdict, offered, expected }: HostKeyVerification): EnvironmentFailedError {
    const offers = `${addressOf(this.#config)} offers the host key ${describeKey(offered)}`;
    const message = {
      revoked: `${offers}, which knownHosts has revoked; give the host another key`,
      changed:
        `${offers}, but knownHosts has ${describeKeys(expected)} for it; either the host was given a new key, ` +
        `then put that into knownHosts, or something else answers in its place`,
      unknown:
        `${offers}, and knownHosts has no key for it${this.#otherKeys()}; ` +
        `if the fingerprint is right, add the key to knownHosts`,
      trusted: offers,
    }[verdict];
    return new EnvironmentFailedError('host_key_rejected', message);
  }

  #otherKeys(): string {
    const keys = this.#knownHosts.filter(({ isRevoked }) => !isRevoked).map(({ key }) => key);
    return keys.length === 0 ? '' : `, only ${describeKeys(keys)} for other hosts or ports`;
  }
}

function describeKeys(keys: readonly HostKey[]): string {
  const named = keys.slice(0, MAXIMUM_KEYS_NAMED).map((key) => describeKey(key));
  const more = keys.length - named.length;
  return named.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function describeKey({ type, blob }: HostKey): string {
  return `${type} ${fingerprintOf(blob)}`;
}
