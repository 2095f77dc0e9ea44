import { InvalidArgumentError, Option } from 'commander';
import ms from 'ms';
import type { StringValue } from 'ms';
import { isPostgresUrl, parsePostgresUrl } from '../lib/postgres-url.ts';
import { InvalidConfigurationError, MAXIMUM_TTL_SECONDS, MINIMUM_TTL_SECONDS } from '../contracts/index.ts';

/** `--database-url`, or DATABASE_URL. Read it with {@link checkedDatabaseUrl}. */
export function databaseUrlOption(): Option {
  return new Option('--database-url <url>', 'where the tables of Lessor are: postgres://…').env('DATABASE_URL');
}

/** `--queue-url`, or QUEUE_URL. Read it with {@link checkedQueueUrl}. */
export function queueUrlOption(): Option {
  return new Option('--queue-url <url>', 'where the queues are: redis://…, rediss://… or postgres://…').env(
    'QUEUE_URL',
  );
}

/** `--queue-prefix`, or QUEUE_PREFIX. */
export function queuePrefixOption(): Option {
  return new Option('--queue-prefix <prefix>', 'BullMQ prefix of the queues on Redis')
    .env('QUEUE_PREFIX')
    .default('lessor');
}

/** `--buffer`: how long what is published is held while the queue is away. */
export function bufferOption(): Option {
  return new Option('--buffer <time>', 'how long to wait for a queue that is away; default not at all').argParser(
    parseDuration,
  );
}

/**
 * Checks a database URL. The option itself cannot: commander repeats a wrong value, which here can carry a password.
 * @throws {InvalidConfigurationError}
 */
export function checkedDatabaseUrl(url: string | undefined): string {
  return checkedUrl(url, '--database-url', 'DATABASE_URL', ['postgres:', 'postgresql:']);
}

/**
 * Checks a queue URL, as {@link checkedDatabaseUrl} does.
 * @throws {InvalidConfigurationError}
 */
export function checkedQueueUrl(url: string | undefined): string {
  return checkedUrl(url, '--queue-url', 'QUEUE_URL', ['redis:', 'rediss:', 'postgres:', 'postgresql:']);
}

function checkedUrl(url: string | undefined, flag: string, variable: string, protocols: readonly string[]): string {
  if (url === undefined || url === '')
    throw new InvalidConfigurationError(`${flag} is missing: give it, or set ${variable}`);
  if (isPostgresUrl(url)) {
    parsePostgresUrl(url, `${flag} (${variable})`);
    return url;
  }
  if (URL.canParse(url) && protocols.includes(new URL(url).protocol)) return url;
  const starts = protocols.map((protocol) => `${protocol}//`).join(', ');
  throw new InvalidConfigurationError(`${flag} (${variable}) must be a URL that starts with one of ${starts}`);
}

/** What a timer of Node can hold: almost 25 days. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** What Postgres takes for a whole number: 68 years. */
const LONGEST_AGE_SECONDS = 2_147_483_647;

/** Reads a length of time such as `500ms`, `90s`, `5m` or `1h` into milliseconds; a bare number is seconds. */
export function parseDuration(text: string): number {
  const milliseconds = /^\d+$/.test(text) ? Number(text) * 1_000 : (ms(text as StringValue) ?? Number.NaN);
  if (milliseconds >= 1 && milliseconds <= LONGEST_TIMER_MS) return Math.round(milliseconds);
  throw new InvalidArgumentError('It must be a length of time such as 500ms, 90s, 5m or 1h, of at most 24 days.');
}

/** Reads a length of time that no timer has to hold, such as `90d`, into seconds. */
export function parseAge(text: string): number {
  const seconds = /^\d+$/.test(text) ? Number(text) : (ms(text as StringValue) ?? Number.NaN) / 1_000;
  if (seconds >= 60 && seconds <= LONGEST_AGE_SECONDS) return Math.round(seconds);
  throw new InvalidArgumentError('It must be a length of time such as 12h or 90d, of at least a minute.');
}

/** Reads `true` or `false`, as a variable holds it. */
export function parseSwitch(text: string): boolean {
  if (text === 'true') return true;
  if (text === 'false') return false;
  throw new InvalidArgumentError('It must be true or false.');
}

/** Reads the ttl of a lease into seconds. */
export function parseTtl(text: string): number {
  const seconds = parseDuration(text) / 1_000;
  if (Number.isInteger(seconds) && seconds >= MINIMUM_TTL_SECONDS && seconds <= MAXIMUM_TTL_SECONDS) return seconds;
  throw new InvalidArgumentError(
    `It must be whole seconds from ${MINIMUM_TTL_SECONDS} to ${MAXIMUM_TTL_SECONDS}, such as 90s, 5m or 24h.`,
  );
}

/** Reads a whole number that is at least 1. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 1 && Number.isSafeInteger(count)) return count;
  throw new InvalidArgumentError('It must be a whole number of at least 1.');
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Reads a UUID. */
export function parseId(text: string): string {
  if (UUID.test(text)) return text.toLowerCase();
  throw new InvalidArgumentError('It must be a UUID.');
}
