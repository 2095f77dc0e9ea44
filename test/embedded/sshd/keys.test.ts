import ssh2 from 'ssh2';
import { expect, test } from 'vitest';
import { generateKeyPair } from '../../../src/embedded/sshd/keys.ts';

test('every generated key pair can be parsed, both halves', () => {
  const pairs = Array.from({ length: 1_500 }, generateKeyPair);
  const halves = pairs.flatMap((pair) => [pair.private, pair.public]);
  expect(halves.filter((half) => ssh2.utils.parseKey(half) instanceof Error)).toEqual([]);
});
