import { describe, expect, test } from 'vitest';
import { InvalidPayloadError, parse } from '../../src/contracts/index.ts';
import { sshConfigSchema } from '../../src/ssh/config.ts';
import { newKeyPair } from './keys.ts';

const { private: privateKey, public: publicKey } = newKeyPair();
const knownHosts = `host.example ${publicKey}\n`;
const valid = {
  host: 'host.example',
  username: 'agent',
  remoteWorkspacePath: '/srv/agents',
  privateKey: 'env:KEY',
  knownHosts,
};

const parseConfig = (input: unknown) => parse(sshConfigSchema, input, 'config of the environment');

/** The error of a rejected config, as text. */
function rejectionOf(input: unknown): string {
  try {
    parseConfig(input);
  } catch (error) {
    if (error instanceof InvalidPayloadError) return String(error) + JSON.stringify(error);
    throw error;
  }
  throw new Error('the config was accepted');
}

test('an omitted field has a default', () => {
  expect(parseConfig(valid)).toEqual({ ...valid, port: 22, strictHostKeyChecking: true, workspaceMode: 'staged' });
});

test.each([
  ['/srv/agents/', '/srv/agents'],
  ['//srv///agents//', '/srv/agents'],
  ["/srv/it's $HOME, ünïcode", "/srv/it's $HOME, ünïcode"],
])('the workspace path %s becomes %s', (given, normalized) => {
  expect(parseConfig({ ...valid, remoteWorkspacePath: given }).remoteWorkspacePath).toBe(normalized);
});

test.each([
  '/',
  '//',
  '',
  'srv/agents',
  '~/agents',
  '/srv/../etc',
  '/srv/./x',
  '/srv\\x',
  '/srv\nx',
  '/srv\0x',
  `/${'x'.repeat(2000)}`,
])('the workspace path %j is rejected', (remoteWorkspacePath) => {
  expect(rejectionOf({ ...valid, remoteWorkspacePath })).toContain('remoteWorkspacePath');
});

test.each(['', '-oProxyCommand=x', 'a b', 'user@host', 'host:22/x', '[::1]', 'a\nb'])(
  'the host %j is rejected',
  (host) => {
    expect(rejectionOf({ ...valid, host })).toContain('host');
  },
);

test.each(['host', '10.0.0.1', '::1', 'fe80::1%eth0', 'host_1.example.'])('the host %s is accepted', (host) => {
  expect(parseConfig({ ...valid, host }).host).toBe(host);
});

test.each([
  { port: 0 },
  { port: 65_536 },
  { port: '22' },
  { username: '' },
  { username: 'a\nb' },
  { workspaceMode: 'shared' },
  { planted: 1 },
])('%j is rejected', (part) => {
  expect(rejectionOf({ ...valid, ...part })).toContain(Object.keys(part)[0]);
});

describe('a private key pasted in place of its reference', () => {
  const line = privateKey.split('\n')[2]!;

  test('is never repeated in an error', () => {
    const told = rejectionOf({ ...valid, privateKey });
    expect(told).toContain('reference to a secret');
    expect(told).not.toContain(line);
  });

  test('is never repeated in an error, even as known hosts', () => {
    const told = rejectionOf({ ...valid, knownHosts: privateKey });
    expect(told).toContain('knownHosts');
    expect(told).not.toContain(line);
  });
});

describe('strict host key checking', () => {
  test.each([undefined, '', '# only a comment\n', `@revoked ${knownHosts}`])(
    'is rejected without a known key: %j',
    (text) => {
      expect(rejectionOf({ ...valid, knownHosts: text })).toContain('ssh-keyscan');
    },
  );

  test('can be turned off, with or without known hosts', () => {
    expect(parseConfig({ ...valid, knownHosts: undefined, strictHostKeyChecking: false })).toMatchObject({
      strictHostKeyChecking: false,
    });
    expect(parseConfig({ ...valid, strictHostKeyChecking: false }).knownHosts).toBe(knownHosts);
  });

  test('rejects known hosts that are too long', () => {
    expect(rejectionOf({ ...valid, knownHosts: knownHosts + '#'.repeat(8192) })).toContain('8192');
  });
});
