/** What can go wrong with the embedded Postgres, one word per cause. */
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
  'supervisor_failed',
] as const;
export type EmbeddedPostgresErrorCode = (typeof embeddedPostgresErrorCodes)[number];

/** What can go wrong with an ephemeral sshd, one word per cause. */
export type SshdErrorCode =
  | 'sshd_missing'
  | 'sshd_failed'
  | 'login_failed'
  | 'no_login_account'
  | 'directory_unusable'
  | 'port_in_use'
  | 'sessions_left'
  | 'supervisor_failed'
  | 'server_closed';

/** An embedded server could not be started, kept running or stopped; the message says what to do about it. */
export class EmbeddedServerError<Code extends string = string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

export class EmbeddedPostgresError extends EmbeddedServerError<EmbeddedPostgresErrorCode> {}

export class SshdError extends EmbeddedServerError<SshdErrorCode> {}
