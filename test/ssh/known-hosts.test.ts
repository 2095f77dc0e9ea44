import { execFileSync } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { InvalidConfigurationError } from '../../src/contracts/index.ts';
import { fingerprintOf, verifyHostKey, knownKeyTypes, parseKnownHosts } from '../../src/ssh/known-hosts.ts';
import { newKeyPair } from './keys.ts';
import { programsOnPath } from '../support/requirements.ts';

const newKey = (type?: 'ecdsa-256') => {
  const line = newKeyPair(type).public;
  return { line, blob: Buffer.from(line.split(' ')[1]!, 'base64') };
};
const [key, other, ecdsa] = [newKey(), newKey(), newKey('ecdsa-256')];

const verdictOf = (text: string, host: string, port: number, blob: Buffer = key.blob) =>
  verifyHostKey(parseKnownHosts(text), { host, port }, blob).verdict;

function hashed(name: string): string {
  const salt = randomBytes(20);
  return `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update(name).digest('base64')}`;
}

describe('a name matches', () => {
  test.each([
    ['host.example', 'host.example', 22, 'trusted'],
    ['host.example', 'HOST.example', 22, 'trusted'],
    ['Host.Example', 'host.example', 22, 'trusted'],
    ['host.example', 'other.example', 22, 'unknown'],
    ['host.example', 'xhost.example', 22, 'unknown'],
    ['a.example,host.example,10.0.0.1', '10.0.0.1', 22, 'trusted'],
    ['[host.example]:2222', 'host.example', 2222, 'trusted'],
    ['[host.example]:2222', 'host.example', 22, 'unknown'],
    ['[host.example]:2222', 'host.example', 2223, 'unknown'],
    ['[::1]:2222', '::1', 2222, 'trusted'],
    ['*.example', 'host.example', 22, 'trusted'],
    ['*.example', 'example', 22, 'unknown'],
    ['host-?.example', 'host-1.example', 22, 'trusted'],
    ['host-?.example', 'host-10.example', 22, 'unknown'],
    ['*.example,!bad.example', 'bad.example', 22, 'unknown'],
    ['!bad.example,*.example', 'bad.example', 22, 'unknown'],
    ['!bad.example,*.example', 'good.example', 22, 'trusted'],
    ['!bad.example', 'good.example', 22, 'unknown'],
    ['[*.example]:2222', 'host.example', 2222, 'trusted'],
    ['[h]:2222', 'h', 2222, 'trusted'],
    ['h', '[h]', 22, 'unknown'],
    [hashed('host.example'), 'host.example', 22, 'trusted'],
    [hashed('host.example'), 'Host.Example', 22, 'trusted'],
    [hashed('host.example'), 'other.example', 22, 'unknown'],
    [hashed('[host.example]:2222'), 'host.example', 2222, 'trusted'],
    [hashed('[host.example]:2222'), 'host.example', 22, 'unknown'],
  ])('%s is for %s on port %i: %s', (hosts, host, port, verdict) => {
    expect(verdictOf(`${hosts} ${key.line}\n`, host, port)).toBe(verdict);
  });

  test('a name with many wildcards is matched in linear time', () => {
    expect(verdictOf(`${'*a'.repeat(500)} ${key.line}`, 'a'.repeat(250), 22)).toBe('unknown');
  });
});

describe('a key', () => {
  test('other than the known one is changed, with both reported', () => {
    const verification = verifyHostKey(parseKnownHosts(`h ${key.line}`), { host: 'h', port: 22 }, other.blob);
    expect(verification.verdict).toBe('changed');
    expect(verification.offered.blob).toEqual(other.blob);
    expect(verification.expected.map(({ blob }) => blob)).toEqual([key.blob]);
  });

  test('is trusted when it is one of several', () => {
    const text = `h ${ecdsa.line}\r\n# comment\r\n\r\nh ${other.line} a comment\r\nh\t${key.line}\r\n`;
    expect(verdictOf(text, 'h', 22)).toBe('trusted');
    expect(knownKeyTypes(parseKnownHosts(text), { host: 'h', port: 22 })).toEqual([
      'ecdsa-sha2-nistp256',
      'ssh-ed25519',
    ]);
  });

  test('of another type than the known one is changed', () => {
    expect(verdictOf(`h ${ecdsa.line}`, 'h', 22)).toBe('changed');
  });

  test('that is revoked is not trusted by another line', () => {
    expect(verdictOf(`h ${key.line}\n@revoked * ${key.line}`, 'h', 22)).toBe('revoked');
    expect(verdictOf(`@revoked h ${key.line}`, 'h', 2222)).toBe('revoked');
    expect(verdictOf(`@revoked ${hashed('h')} ${key.line}`, 'h', 22)).toBe('revoked');
  });

  test('stays trusted when another one is revoked, or it is revoked for another host', () => {
    expect(verdictOf(`h ${key.line}\n@revoked h ${other.line}\n@revoked x ${key.line}`, 'h', 22)).toBe('trusted');
  });

  test('known for the host without a port is trusted on every port, as in ssh, and never changed', () => {
    expect(verdictOf(`h ${key.line}`, 'h', 2222)).toBe('trusted');
    expect(verdictOf(`h ${other.line}`, 'h', 2222)).toBe('unknown');
    expect(verdictOf(`[h]:2222 ${other.line}\nh ${key.line}`, 'h', 2222)).toBe('changed');
  });

  test('that is malformed is unknown', () => {
    for (const blob of [
      Buffer.alloc(0),
      Buffer.from([0, 0, 0]),
      Buffer.from([255, 255, 255, 255, 1]),
      randomBytes(40),
    ]) {
      expect(verdictOf(`x ${key.line}`, 'h', 22, blob)).toBe('unknown');
    }
  });
});

describe('known_hosts is rejected with the line that', () => {
  test.each([
    ['has a certificate authority', `@cert-authority *.example ${key.line}`, 'not supported'],
    ['has another marker', `@trusted h ${key.line}`, 'marker'],
    ['lacks the key', 'h ssh-ed25519', 'form'],
    ['has a key that is cut', `h ${key.line.slice(0, 30)}`, 'damaged'],
    ['has a key that is no base64', 'h ssh-ed25519 planted!', 'damaged'],
    ['has a key of another type', `h ${key.line.replace('ssh-ed25519', 'ssh-rsa')}`, 'damaged'],
    ['has a hashed name that is cut', `|1|planted ${key.line}`, 'hashed'],
    ['is of the first SSH protocol', 'h 1024 35 1234567890', 'damaged'],
  ])('%s', (_case, line, reason) => {
    const read = () => parseKnownHosts(`# first\n${line}\n`);
    expect(read).toThrow(InvalidConfigurationError);
    expect(read).toThrow(/^line 2 /);
    expect(read).toThrow(reason);
    expect(read).not.toThrow('planted');
  });
});

const keygen = programsOnPath('ssh-keygen');

describe.runIf(keygen.isMet)(`as OpenSSH's own${keygen.note}`, () => {
  test('hashing and fingerprints are understood', () => {
    const directory = mkdtempSync(join(tmpdir(), 'lessor-known-hosts-'));
    try {
      const path = join(directory, 'known_hosts');
      writeFileSync(path, `host.example,10.0.0.1 ${key.line}\n[host.example]:2222 ${other.line}\n`);
      const listed = execFileSync('ssh-keygen', ['-lf', path], { encoding: 'utf8' });
      expect(listed).toContain(fingerprintOf(key.blob));
      expect(listed).toContain(fingerprintOf(other.blob));
      execFileSync('ssh-keygen', ['-H', '-f', path], { stdio: 'ignore' });
      const text = readFileSync(path, 'utf8');
      expect(text).not.toContain('host.example');
      expect(verdictOf(text, '10.0.0.1', 22)).toBe('trusted');
      expect(verdictOf(text, 'host.example', 2222, other.blob)).toBe('trusted');
      expect(verdictOf(text, 'host.example', 22, other.blob)).toBe('changed');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
