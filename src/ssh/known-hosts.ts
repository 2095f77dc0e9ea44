import { createHash, createHmac } from 'node:crypto';
import { InvalidConfigurationError } from '../contracts/index.ts';

/** A line of a known_hosts file: a key and the hosts it belongs to. */
export interface KnownHost {
  /** Patterns of host names, or one hashed name. */
  hosts: string;
  key: HostKey;
  isRevoked: boolean;
}

/** A host key as it goes over the wire. */
export interface HostKey {
  /** Such as `ssh-ed25519`. */
  type: string;
  blob: Buffer;
}

/** The address that a connection is opened to. */
export interface HostAddress {
  host: string;
  port: number;
}

/** The result of comparing an offered host key with known_hosts. */
export interface HostKeyVerification {
  verdict: 'trusted' | 'unknown' | 'changed' | 'revoked';
  offered: HostKey;
  /** The keys that known_hosts has for the host; none when it is unknown. */
  expected: HostKey[];
}

const DEFAULT_PORT = 22;

/**
 * Reads text in the format of OpenSSH's known_hosts: plain, wildcard, negated and hashed names, `[host]:port`, comments
 * and `@revoked`.
 * @throws {InvalidConfigurationError} that names the line; also for `@cert-authority`, which is not supported
 */
export function parseKnownHosts(text: string): KnownHost[] {
  return text.split(/\r?\n/).flatMap((line, index) => {
    const trimmed = line.trim();
    return trimmed === '' || trimmed.startsWith('#') ? [] : [parseLine(trimmed, index + 1)];
  });
}

/** Compares the key that a host offers with those that known_hosts has for its address. */
export function verifyHostKey(
  knownHosts: readonly KnownHost[],
  address: HostAddress,
  blob: Buffer,
): HostKeyVerification {
  const offered = { type: keyTypeOf(blob) ?? 'unknown type', blob };
  const [name, withoutPort] = namesOf(address);
  const isOffered = ({ key }: KnownHost) => key.blob.equals(blob);
  const isRevoked = knownHosts.some(
    (known) => known.isRevoked && isOffered(known) && (matches(known, name) || matches(known, withoutPort)),
  );
  const ofHost = keysFor(knownHosts, name);
  // As in ssh, a line without the port also vouches for the host's other ports, but does not make another key there a
  // changed one.
  const ofPort = ofHost.length > 0 ? ofHost : keysFor(knownHosts, withoutPort).filter(isOffered);
  const expected = ofPort.map(({ key }) => key);
  if (isRevoked) return { verdict: 'revoked', offered, expected };
  if (expected.length === 0) return { verdict: 'unknown', offered, expected };
  return { verdict: ofPort.some(isOffered) ? 'trusted' : 'changed', offered, expected };
}

/** Types of the keys that known_hosts has for a host. */
export function knownKeyTypes(knownHosts: readonly KnownHost[], address: HostAddress): string[] {
  const types = namesOf(address).flatMap((name) => keysFor(knownHosts, name).map(({ key }) => key.type));
  return [...new Set(types)];
}

/** The fingerprint as ssh prints it: `SHA256:…`. */
export function fingerprintOf(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

function keysFor(knownHosts: readonly KnownHost[], name: string): KnownHost[] {
  return knownHosts.filter((known) => !known.isRevoked && matches(known, name));
}

/** The host's name in known_hosts, and its name on the default port. */
function namesOf({ host, port }: HostAddress): [string, string] {
  const name = host.toLowerCase();
  return [port === DEFAULT_PORT ? name : `[${name}]:${port}`, name];
}

function matches({ hosts }: KnownHost, name: string): boolean {
  if (hosts.startsWith('|1|')) return matchesHash(hosts, name);
  let isMatched = false;
  for (const pattern of hosts.toLowerCase().split(',')) {
    const isNegated = pattern.startsWith('!');
    if (!matchesPattern(isNegated ? pattern.slice(1) : pattern, name)) continue;
    // A negated pattern excludes the name from the whole line.
    if (isNegated) return false;
    isMatched = true;
  }
  return isMatched;
}

function matchesHash(hashed: string, name: string): boolean {
  const [, , salt, hash] = hashed.split('|') as [string, string, string, string];
  return createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest().equals(Buffer.from(hash, 'base64'));
}

/**
 * `*` matches any characters, `?` one; everything else, brackets included, itself. Takes at most pattern × name steps:
 * a regular expression would backtrack exponentially on hostile patterns.
 */
function matchesPattern(pattern: string, name: string): boolean {
  let [at, star, resumeAt] = [0, -1, 0];
  let index = 0;
  while (index < name.length) {
    if (pattern[at] === '*') {
      [star, resumeAt] = [at, index];
      at += 1;
    } else if (pattern[at] === '?' || pattern[at] === name[index]) {
      at += 1;
      index += 1;
    } else if (star !== -1) {
      // The last star consumes one more character.
      at = star + 1;
      resumeAt += 1;
      index = resumeAt;
    } else return false;
  }
  return /^\**$/.test(pattern.slice(at));
}

function parseLine(line: string, number: number): KnownHost {
  const fail = (detail: string) => new InvalidConfigurationError(`line ${number} ${detail}`);
  const fields = line.split(/[ \t]+/);
  const marker = fields[0]!.startsWith('@') ? fields.shift() : undefined;
  if (marker === '@cert-authority') {
    throw fail('has @cert-authority, which is not supported: give the keys of the hosts themselves');
  }
  if (marker !== undefined && marker !== '@revoked') throw fail('begins with a marker other than @revoked');
  const [hosts, type, encoded] = fields;
  if (hosts === undefined || type === undefined || encoded === undefined) {
    throw fail('is not of the form: hosts, type of key, key');
  }
  if (hosts.startsWith('|') && !/^\|1\|[A-Za-z0-9+/]+=*\|[A-Za-z0-9+/]+=*$/.test(hosts)) {
    throw fail('has a hashed name that is not of the form |1|salt|hash');
  }
  const blob = Buffer.from(encoded, 'base64');
  if (!/^[A-Za-z0-9+/]+=*$/.test(encoded) || keyTypeOf(blob) !== type) {
    throw fail('has a key that is damaged, or not of the type it says');
  }
  return { hosts, key: { type, blob }, isRevoked: marker === '@revoked' };
}

/** The type that a key blob names; undefined for a malformed one. */
function keyTypeOf(blob: Buffer): string | undefined {
  if (blob.length < 4) return undefined;
  const length = blob.readUInt32BE(0);
  // The key itself follows the type.
  return length === 0 || length > 64 || blob.length <= 4 + length ? undefined : blob.toString('latin1', 4, 4 + length);
}
