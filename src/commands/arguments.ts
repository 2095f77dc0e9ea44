/** Parsers of arguments that are not settings. Commander shows the value that one rejects: none is for secrets. */
import { InvalidArgumentError, Option } from 'commander';
import { timerMsSchema } from '../lib/settings.ts';
import { parseDurationMs } from './setting-text.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Parses a UUID. */
export function parseId(text: string): string {
  if (UUID.test(text)) return text.toLowerCase();
  throw new InvalidArgumentError('It must be a UUID.');
}

/** A flag that takes a UUID. */
export function idOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseId);
}

/** Parses a whole number of at least 1. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && Number.isSafeInteger(count)) return count;
  throw new InvalidArgumentError('It must be a whole number of at least 1.');
}

/** Parses a duration such as `500ms`, `90s`, `5m` or `1h` into milliseconds; a bare number is seconds. */
export function parseDuration(text: string): number {
  const parsed = timerMsSchema.safeParse(parseDurationMs(text));
  if (parsed.success) return parsed.data;
  throw new InvalidArgumentError('It must be a duration such as 500ms, 90s, 5m or 1h, of at most 24 days.');
}
