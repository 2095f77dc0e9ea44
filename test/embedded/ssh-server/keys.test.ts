import ssh2 from 'ssh2';
import { expect, test } from 'vitest';
import { generateKeyPair } from '../../../src/embedded/ssh-server/keys.ts';

test('every pair of keys can be read, both halves', () => {
  const pairs = Array.from({ length: 1_500 }, generateKeyPair);
  const halves = pairs.flatMap((pair) => [pair.private, pair.public]);
  expect(halves.filter((half) => ssh2.utils.parseKey(half) instanceof Error)).toEqual([]);
});
