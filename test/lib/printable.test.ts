import { expect, test } from 'vitest';
import { escapeInJson, printable, printableJson, printableLine } from '../../src/lib/printable.ts';

const HOSTILE = [
  ['C0', 'a\u001b[2Jb\u0007\r'],
  ['DEL', 'a\u007fb'],
  ['C1', 'a\u009b31mb\u0090'],
  ['bidi', 'a\u202eb\u2066c\u200f'],
  ['line separators', 'a\u2028b\u2029c'],
  ['tags, above the first 65,536 code points', 'a\u{e0041}b'],
  ['a lone surrogate', 'a\ud800b'],
] as const;

const OBEYED = /[\p{C}\p{Zl}\p{Zp}]/u;

test.for(HOSTILE)('text for people has no character that a terminal could obey: %s', ([, text]) => {
  expect(printable(text)).not.toMatch(OBEYED);
  expect(printableLine(`${text}\n`)).not.toMatch(OBEYED);
});

test.for(HOSTILE)('JSON for programs has none either, and parses to the same value: %s', ([, text]) => {
  const value = { [text]: [text] };
  expect(printableJson(value)).not.toMatch(OBEYED);
  expect(JSON.parse(printableJson(value))).toEqual(value);
});

test('letters of any language and the line feeds between lines of JSON stay as they are', () => {
  expect(printable('Grüße 🦊 日本\n')).toBe('Grüße 🦊 日本\n');
  expect(printableJson('Grüße 🦊 日本')).toBe('"Grüße 🦊 日本"');
  expect(escapeInJson('{"a":"\u009b"}\n')).toBe('{"a":"\\u009b"}\n');
});
