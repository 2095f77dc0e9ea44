import type { ServerHostKeyAlgorithm } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { addressOf } from './address.ts';
import type { SshConfig } from './config.ts';
import { fingerprintOf, judgeHostKey, knownKeyTypes, parseKnownHosts } from './known-hosts.ts';
import type { HostKey, HostKeyJudgement, KnownHost } from './known-hosts.ts';

/** Algorithms by which hosts prove themselves, as preferred by OpenSSH, each with the type of key it needs. */
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

/** Decides for one connection whether the host is the one that the config means. */
export class HostKeyCheck {
  /** A host with keys of several types is asked for one that is known. */
  readonly algorithms: ServerHostKeyAlgorithm[];
  readonly #config: SshConfig;
  readonly #knownHosts: KnownHost[];
  #rejection: EnvironmentFailedError | undefined;
  #accepted: HostKeyJudgement | undefined;

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

  /** Why the host was refused, once it was. */
  get rejection(): EnvironmentFailedError | undefined {
    return this.#rejection;
  }

  /** What was found of a host that was accepted, in words. */
  get finding(): string {
    if (this.#accepted === undefined) return 'not looked at';
    const { verdict, offered } = this.#accepted;
    if (verdict === 'trusted') return `${describeKey(offered)}, as knownHosts says`;
    return `${describeKey(offered)}, accepted unchecked, since strictHostKeyChecking is off (${verdict})`;
  }

  /** Judges the key that the host offered. */
  accepts(blob: Buffer): boolean {
    const judgement = judgeHostKey(this.#knownHosts, this.#config, blob);
    const isAccepted =
      judgement.verdict === 'trusted' || (judgement.verdict !== 'revoked' && !this.#config.strictHostKeyChecking);
    if (isAccepted) this.#accepted = judgement;
    else this.#rejection = this.#refuse(judgement);
    return isAccepted;
  }

  #refuse({ verdict, offered, expected }: HostKeyJudgement): EnvironmentFailedError {
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
