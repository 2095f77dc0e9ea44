import { storableReason } from '../contracts/index.ts';
import { sqlErrorOf } from '../db/sql-errors.ts';

/** An error as it may be logged. */
export interface SerializedError {
  type: string;
  message: string;
  code?: string;
  stack?: string;
}

/**
 * Serializes errors for pino. Those of drizzle carry the statement's parameter values in their message, which can be
 * anything that a run brought along: of these only what Postgres itself said is kept.
 */
export function serializeError(error: unknown): SerializedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const sqlError = sqlErrorOf(error);
  if (sqlError !== undefined) return { type: error.constructor.name, ...sqlError };
  return { type: error.constructor.name, message: error.message, ...(error.stack ? { stack: error.stack } : {}) };
}

/** An error in words that may be stored with a job: what Postgres said, without the statement and its values. */
export function describeError(error: unknown): string {
  const sqlError = sqlErrorOf(error);
  if (sqlError !== undefined) return storableReason(`${sqlError.message} (${sqlError.code})`);
  return storableReason(error instanceof Error ? error.message : String(error));
}
