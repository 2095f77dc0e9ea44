import { describe, expect, test } from 'vitest';
import { MAXIMUM_REASON_LENGTH, isStorableText, storableReason } from '../../src/contracts/index.ts';

describe('a storable reason', () => {
  test('is left as it is where nothing is wrong with it', () => {
    for (const text of ['', 'plain', 'two\nlines', 'emoji 👋', 'x'.repeat(MAXIMUM_REASON_LENGTH)]) {
      expect(storableReason(text)).toBe(text);
    }
  });

  test('has no NUL and no lone surrogate left', () => {
    expect(storableReason('a\u0000b\u0000')).toBe('a\uFFFDb\uFFFD');
    expect(storableReason('\uD83D and \uDC4B')).toBe('\uFFFD and \uFFFD');
  });

  test('is cut to its longest, and says that it was', () => {
    const reason = storableReason('x'.repeat(MAXIMUM_REASON_LENGTH + 1));
    expect(reason).toHaveLength(MAXIMUM_REASON_LENGTH);
    expect(reason.endsWith('x…')).toBe(true);
  });

  test('is storable even when the cut goes through a surrogate pair', () => {
    for (const offset of [0, 1]) {
      const reason = storableReason('x'.repeat(offset) + '👋'.repeat(MAXIMUM_REASON_LENGTH));
      expect(isStorableText(reason)).toBe(true);
      expect(reason.length).toBeLessThanOrEqual(MAXIMUM_REASON_LENGTH);
    }
  });
});
