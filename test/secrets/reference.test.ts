import ssh2 from 'ssh2';
import { describe, expect, test } from 'vitest';
import { describeReference, parseReference, secretReferenceSchema } from '../../src/secrets/reference.ts';

describe('a reference', () => {
  test.each([
    ['env:SSH_KEY', { kind: 'env', name: 'SSH_KEY' }, 'the environment variable SSH_KEY'],
    ['file:/etc/lessor/a key', { kind: 'file', path: '/etc/lessor/a key' }, 'the file /etc/lessor/a key'],
    ['sealed:v1:QUJD_-', { kind: 'sealed', sealed: 'sealed:v1:QUJD_-' }, 'the sealed secret'],
  ])('%s is accepted, and named in messages', (reference, parsed, name) => {
    expect(secretReferenceSchema.parse(reference)).toBe(reference);
    expect(parseReference(reference)).toEqual(parsed);
    expect(describeReference(reference)).toBe(name);
  });

  test.each([
    ['a pasted private key', ssh2.utils.generateKeyPairSync('ed25519', { comment: 'planted' }).private],
    ['a variable with an invalid name', 'env:planted-name'],
    ['a file with a relative path', 'file:planted/key'],
    ['a file with a line break in its name', 'file:/planted\nkey'],
    ['an unknown version', 'sealed:v2:planted'],
    ['a sealed secret with other characters', 'sealed:v1:planted+/='],
    ['more than a reference', ' env:planted'],
    ['far too much', `sealed:v1:${'planted'.repeat(4_000)}`],
    ['no string', { planted: true }],
  ])('that is %s is rejected without repeating it', (_case, value) => {
    const parsed = secretReferenceSchema.safeParse(value);
    expect(parsed.success).toBe(false);
    const told = JSON.stringify(parsed.error) + String(parsed.error);
    expect(told).toContain('reference to a secret');
    expect(told).not.toContain('planted');
    expect(told).not.toContain(JSON.stringify(value).slice(1, 40));
  });
});
