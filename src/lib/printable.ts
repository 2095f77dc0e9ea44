/** Control and format characters, and the separators that some terminals break lines at. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * Text that came from a payload, a host or the database, safe to show on a terminal: characters that a terminal could obey
 * are written as escapes. Line feeds stay.
 */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, (character) =>
    character === '\n' ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}

/** As {@link printable}, in one line. */
export function printableLine(text: string): string {
  return printable(text).replaceAll('\n', String.raw`\u{a}`);
}
