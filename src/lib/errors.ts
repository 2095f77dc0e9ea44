/** Whether the error carries one of the codes, such as an errno of Node's. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** The thrown value as an error: anything can be thrown. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** The error's message, or the thrown value as text. */
export function messageOf(error: unknown): string {
  return toError(error).message;
}

/** How a call ended. */
export type Settled<Result> = { ok: true; result: Result } | { ok: false; error: unknown };

/** Calls a function and catches what it throws or rejects with, which keeps the outcome and its type together. */
export async function settle<Result>(work: () => Promise<Result>): Promise<Settled<Result>> {
  try {
    return { ok: true, result: await work() };
  } catch (error) {
    return { ok: false, error };
  }
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
