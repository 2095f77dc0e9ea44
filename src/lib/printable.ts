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

/** A value as JSON in one line, in which the same characters are escapes of JSON: parsed, it is the same value. */
export function printableJson(value: unknown): string {
  return escapeInJson(JSON.stringify(value));
}

/** Escapes the same characters in text that is JSON, in which they occur in strings only; line feeds stay. */
export function escapeInJson(json: string): string {
  return json.replaceAll(UNPRINTABLE, (character) => (character === '\n' ? character : jsonEscape(character)));
}

function jsonEscape(character: string): string {
  return Array.from({ length: character.length }, (_, index) => character.charCodeAt(index))
    .map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`)
    .join('');
}

/** As {@link printable}, in one line. */
export function printableLine(text: string): string {
  return printable(text).replaceAll('\n', String.raw`\u{a}`);
}
