import { describe, expect, test } from 'vitest';
import { MAXIMUM_METADATA_BYTES, MAXIMUM_METADATA_DEPTH, runStartedSchema } from '../../src/contracts/index.ts';
import { runStarted } from '../support/factories.ts';

const isValid = (payload: unknown) => runStartedSchema.safeParse(payload).success;
const withMetadata = (metadata: unknown) => ({ ...runStarted(), metadata });

/** An object whose JSON is exactly so many bytes. */
const ofBytes = (bytes: number, character = 'x') => {
  const frame = Buffer.byteLength(JSON.stringify({ text: '' }));
  return { text: character.repeat((bytes - frame) / Buffer.byteLength(character)) };
};

const nested = (depth: number) => {
  let value: unknown = 1;
  for (let level = 0; level < depth; level += 1) value = { in: value };
  return value;
};

describe('metadata', () => {
  test('is at most 16 KiB of JSON, in bytes and not in characters', () => {
    expect(isValid(withMetadata(ofBytes(MAXIMUM_METADATA_BYTES)))).toBe(true);
    expect(isValid(withMetadata(ofBytes(MAXIMUM_METADATA_BYTES + 1)))).toBe(false);
    expect(isValid(withMetadata(ofBytes(MAXIMUM_METADATA_BYTES + 3, 'ä')))).toBe(false);
  });

  test('is nested at most 32 deep; a hostile payload is rejected without a stack overflow', () => {
    expect(isValid(withMetadata(nested(MAXIMUM_METADATA_DEPTH)))).toBe(true);
    expect(isValid(withMetadata(nested(MAXIMUM_METADATA_DEPTH + 1)))).toBe(false);
    expect(isValid(withMetadata(nested(100_000)))).toBe(false);
    const cyclic: Record<string, unknown> = {};
    cyclic['self'] = cyclic;
    expect(isValid(withMetadata(cyclic))).toBe(false);
  });

  test.for([
    ['NUL', 'a\u0000b'],
    ['a lone high surrogate', 'a\uD83D'],
    ['a lone low surrogate', '\uDC4Ba'],
  ] as const)('has no %s in a value or a key, at any depth', ([, text]) => {
    expect(isValid(withMetadata({ [text]: 1 }))).toBe(false);
    expect(isValid(withMetadata({ key: text }))).toBe(false);
    expect(isValid(withMetadata({ list: [{ deep: [{ [text]: 1 }] }] }))).toBe(false);
    expect(isValid(withMetadata({ list: [{ deep: ['good', [text]] }] }))).toBe(false);
  });

  test('names the path of a value that cannot be stored', () => {
    const { error } = runStartedSchema.safeParse(withMetadata({ list: ['good', { name: '\u0000' }] }));
    expect(error?.issues[0]?.path).toEqual(['metadata', 'list', '1', 'name']);
  });

  test.for([
    ['an array', []],
    ['text', 'text'],
    ['a date', { at: new Date() }],
    ['a map', { map: new Map() }],
    ['a bigint', { big: 1n }],
    ['not a number', { number: Number.NaN }],
    ['a function', { toJSON: () => 1 }],
    ['undefined inside', { a: undefined }],
  ] as const)('is a JSON object, not %s', ([, metadata]) => {
    expect(isValid(withMetadata(metadata))).toBe(false);
  });
});
