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

/** Longest reason that is kept of a failure, in UTF-16 code units. */
export const MAXIMUM_REASON_LENGTH = 4_000;

/** Longest name of an environment or company, in UTF-16 code units. */
export const MAXIMUM_NAME_LENGTH = 200;
