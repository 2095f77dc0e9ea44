import { storableReason } from '../contracts/index.ts';
import { sqlErrorOf } from '../db/sql-errors.ts';
import { messageOf } from '../lib/errors.ts';

/** An error as it may be logged. */
export interface SerializedError {
  type: string;
  message: string;
  code?: string;
  stack?: string;
}

/**
 * Serializes errors for pino. The message of a drizzle error contains the statement's parameter values, which are
 * whatever a run sent: only the code and message of Postgres itself are kept.
 */
export function serializeError(error: unknown): SerializedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const sqlError = sqlErrorOf(error);
  if (sqlError !== undefined) return { type: error.constructor.name, ...sqlError };
  return { type: error.constructor.name, message: error.message, ...(error.stack ? { stack: error.stack } : {}) };
}

/** The reason of a failed job, without parameter values and short enough to be stored with it. */
export function describeError(error: unknown): string {
  const sqlError = sqlErrorOf(error);
  return storableReason(sqlError === undefined ? messageOf(error) : `${sqlError.message} (${sqlError.code})`);
}
