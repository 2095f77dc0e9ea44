/** What can go wrong with an embedded server, one word per cause. */
export const embeddedPostgresErrorCodes = [
  'package_missing',
  'no_unprivileged_user',
  'directory_unreachable',
  'cache_untrusted',
  'data_directory_damaged',
  'data_directory_in_use',
  'port_in_use',
  'initdb_failed',
  'server_failed',
  'start_timeout',
  'guardian_failed',
] as const;

/** See {@link EmbeddedPostgresError.code}. */
export type EmbeddedPostgresErrorCode = (typeof embeddedPostgresErrorCodes)[number];

/** An embedded server could not be started, kept running or stopped; the message says what to do about it. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
  readonly code: EmbeddedPostgresErrorCode;

  constructor(code: EmbeddedPostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
