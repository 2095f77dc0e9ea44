/** What can go wrong with a throwaway SSH server, one word per cause. */
export const sshServerErrorCodes = [
  'sshd_missing',
  'sshd_failed',
  'login_failed',
  'no_login_account',
  'directory_unusable',
  'port_in_use',
  'sessions_left',
  'watch_failed',
  'server_closed',
] as const;

/** See {@link SshServerError.code}. */
export type SshServerErrorCode = (typeof sshServerErrorCodes)[number];

/** A throwaway SSH server could not be opened, started or stopped; the message says what to do about it. */
export class SshServerError extends Error {
  override readonly name = 'SshServerError';
  readonly code: SshServerErrorCode;

  constructor(code: SshServerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
