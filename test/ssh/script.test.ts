import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { EnvironmentFailedError } from '../../src/contracts/index.ts';
import { quote } from '../../src/ssh/script.ts';

const text = fc.string({
  unit: fc.oneof(
    fc.constantFrom(...Array.from('\'"\\$`!*?~#&|;<>(){}[] \t\n\r=-')),
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 1 }),
  ),
});

test('quoted words reach a shell command unchanged', () => {
  fc.assert(
    fc.property(
      fc.array(
        text.filter((word) => !word.includes('\0')),
        { maxLength: 20 },
      ),
      (words) => {
        const script = `printf '%s\\0' ${words.map((word) => quote(word)).join(' ')}`;
        const printed = execFileSync('sh', ['-s'], { input: script, encoding: 'utf8' });
        expect(printed).toBe(words.length === 0 ? '\0' : words.map((word) => `${word}\0`).join(''));
      },
    ),
    { numRuns: 50 },
  );
});

test('a NUL, which no process can be given, is rejected', () => {
  expect(() => quote('a\0b')).toThrow(EnvironmentFailedError);
});
