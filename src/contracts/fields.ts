import { z } from 'zod';

/** Shortest ttl a lease can be given, in seconds. */
export const MINIMUM_TTL_SECONDS = 1;

/** Longest ttl a lease can be given, in seconds: one day. A longer run renews its lease. */
export const MAXIMUM_TTL_SECONDS = 86_400;

/** The ttl of a lease whose run names none, in seconds: long enough to miss two renewals at a third of it. */
export const DEFAULT_TTL_SECONDS = 300;

/** Largest metadata of a payload, in bytes of its JSON in UTF-8. */
export const MAXIMUM_METADATA_BYTES = 16 * 1024;

/** Deepest nesting of metadata: far below the depth at which JSON parsers and Postgres give up. */
export const MAXIMUM_METADATA_DEPTH = 32;

/** Longest stored reason of a failure, in UTF-16 code units. */
export const MAXIMUM_REASON_LENGTH = 4_000;

/** Longest name of an environment or company, in UTF-16 code units. */
export const MAXIMUM_NAME_LENGTH = 200;

const NUL = '\u0000';

/** Whether Postgres can store the text: it rejects NUL everywhere, and lone surrogates in JSON. */
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
 * {@link MAXIMUM_REASON_LENGTH} is cut. For messages of foreign errors, such as a command's.
 */
export function storableReason(text: string): string {
  const wellFormed = text.toWellFormed().replaceAll(NUL, '\uFFFD');
  if (wellFormed.length <= MAXIMUM_REASON_LENGTH) return wellFormed;
  return `${wellFormed.slice(0, MAXIMUM_REASON_LENGTH - 1).toWellFormed()}…`;
}

/** Ids are UUIDs of any version, compared without regard to case. */
export const idSchema = z.guid('must be a UUID').toLowerCase();

/** Seconds, whole, from {@link MINIMUM_TTL_SECONDS} to {@link MAXIMUM_TTL_SECONDS}. */
export const ttlSecondsSchema = z.int().min(MINIMUM_TTL_SECONDS).max(MAXIMUM_TTL_SECONDS);

const EARLIEST_INSTANT = Date.parse('1970-01-01T00:00:00Z');
const LATEST_INSTANT = Date.parse('9999-12-31T00:00:00Z');

/** An ISO 8601 instant with its offset, kept in UTC. The producer's clock: it is recorded, and decides nothing. */
export const instantSchema = z.iso
  .datetime({ offset: true })
  .refine(
    (text) => {
      const instant = Date.parse(text);
      return instant >= EARLIEST_INSTANT && instant <= LATEST_INSTANT;
    },
    { error: 'must be an instant between the years 1970 and 9999', abort: true },
  )
  .overwrite((text) => new Date(text).toISOString());

/** A JSON object of the caller's own, kept on the lease. */
export type Metadata = Record<string, unknown>;

/**
 * A JSON object of at most 16 KiB whose every string can be stored.
 * The walk is iterative: a hostile payload nested thousands deep is rejected and causes no stack overflow.
 */
export const metadataSchema = z
  .record(z.string(), z.unknown())
  .superRefine((metadata, context) => {
    const problem = problemOf(metadata);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem.message, path: problem.path });
  })
  .describe(`at most ${MAXIMUM_METADATA_BYTES} bytes of JSON, nested at most ${MAXIMUM_METADATA_DEPTH} deep`);

interface Problem {
  message: string;
  path: string[];
}

function problemOf(metadata: Metadata): Problem | undefined {
  const pending: { value: unknown; path: string[] }[] = [{ value: metadata, path: [] }];
  for (let entry = pending.pop(); entry !== undefined; entry = pending.pop()) {
    const { value, path } = entry;
    if (path.length > MAXIMUM_METADATA_DEPTH) {
      return { path, message: `is nested more than ${MAXIMUM_METADATA_DEPTH} deep` };
    }
    if (isContainer(value)) {
      for (const [key, child] of Object.entries(value)) {
        if (!isStorableText(key)) return { path, message: 'has a key with a NUL character or a lone surrogate' };
        pending.push({ value: child, path: [...path, key] });
      }
      continue;
    }
    const message = problemOfScalar(value);
    if (message !== undefined) return { path, message };
  }
  const bytes = Buffer.byteLength(JSON.stringify(metadata));
  if (bytes <= MAXIMUM_METADATA_BYTES) return undefined;
  return { path: [], message: `is ${bytes} bytes of JSON, more than the ${MAXIMUM_METADATA_BYTES} allowed` };
}

function isContainer(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null;
}

function problemOfScalar(value: unknown): string | undefined {
  if (value === null || typeof value === 'boolean') return undefined;
  if (typeof value === 'string') {
    return isStorableText(value) ? undefined : 'contains a NUL character or a lone surrogate, which cannot be stored';
  }
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : 'is not a finite number';
  return 'is not a JSON value';
}
