/** Whether the error carries one of the codes, such as an errno of Node's. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** The error's message, or the thrown value as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * The message of the error at the root of a failed connection or statement. Node wraps the errors of a name with several
 * addresses in an AggregateError, and the message of a drizzle error is the statement. Nothing but the message is safe
 * to show: the error of a failed sign-in also carries the command with the password.
 */
export function rootCauseMessage(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return rootCauseMessage(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error) return rootCauseMessage(error.cause);
  if (error.message !== '') return error.message;
  return 'code' in error ? String(error.code) : error.name;
}
