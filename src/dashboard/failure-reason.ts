/**
 * Why a store could not be used, in one line. Only the message is taken: an error of a store's client also carries
 * the command that failed, and that of signing in contains the password.
 */
export function failureReason(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return failureReason(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  // Drizzle's own message is the statement; the reason is its cause's.
  if (error.cause instanceof Error) return failureReason(error.cause);
  if (error.message !== '') return error.message;
  return 'code' in error ? String(error.code) : error.name;
}
