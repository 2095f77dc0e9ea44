import { z } from 'zod';
import { MAXIMUM_REASON_LENGTH } from './limits.ts';

const NUL = '\u0000';

/** Tells whether Postgres can store the text: it refuses NUL everywhere and lone surrogates in JSON. */
export function isStorableText(text: string): boolean {
  return !text.includes(NUL) && text.isWellFormed();
}

/** Non-empty text that Postgres can store, of at most `maximum` UTF-16 code units. */
export function storableText(maximum: number) {
  return z.string().min(1).max(maximum).refine(isStorableText, {
    error: 'contains a NUL character or a lone surrogate, which cannot be stored',
  });
}

/**
 * Makes any text fit to be stored as a reason: NUL characters and lone surrogates become U+FFFD, and what exceeds
 * {@link MAXIMUM_REASON_LENGTH} is cut. Meant for messages of errors that nobody chose, such as those of a command.
 */
export function storableReason(text: string): string {
  const wellFormed = text.toWellFormed().replaceAll(NUL, '\uFFFD');
  if (wellFormed.length <= MAXIMUM_REASON_LENGTH) return wellFormed;
  return `${wellFormed.slice(0, MAXIMUM_REASON_LENGTH - 1).toWellFormed()}…`;
}
