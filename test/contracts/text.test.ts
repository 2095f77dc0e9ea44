import { describe, expect, test } from 'vitest';
import { MAXIMUM_REASON_LENGTH, isStorableText, storableReason } from '../../src/contracts/index.ts';

describe('a storable reason', () => {
  test('is unchanged when it can be stored', () => {
    for (const text of ['', 'plain', 'two\nlines', 'emoji 👋', 'x'.repeat(MAXIMUM_REASON_LENGTH)]) {
      expect(storableReason(text)).toBe(text);
    }
  });

  test('has NUL characters and lone surrogates replaced', () => {
    expect(storableReason('a\u0000b\u0000')).toBe('a\uFFFDb\uFFFD');
    expect(storableReason('\uD83D and \uDC4B')).toBe('\uFFFD and \uFFFD');
  });

  test('is cut at the maximum length and ends in an ellipsis', () => {
    const reason = storableReason('x'.repeat(MAXIMUM_REASON_LENGTH + 1));
    expect(reason).toHaveLength(MAXIMUM_REASON_LENGTH);
    expect(reason.endsWith('x…')).toBe(true);
  });

  test('stays storable when the cut splits a surrogate pair', () => {
    for (const offset of [0, 1]) {
      const reason = storableReason('x'.repeat(offset) + '👋'.repeat(MAXIMUM_REASON_LENGTH));
      expect(isStorableText(reason)).toBe(true);
      expect(reason.length).toBeLessThanOrEqual(MAXIMUM_REASON_LENGTH);
    }
  });
});
