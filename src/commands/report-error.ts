import { CommanderError } from 'commander';
import { serializeError } from '../consumers/error-serializer.ts';
import { LessorError } from '../contracts/index.ts';
import { kindOfSqlError } from '../db/sql-errors.ts';
import { EmbeddedServerError } from '../embedded/errors.ts';
import { CommandNotStartedError } from '../execution/local-driver.ts';
import { RunTimedOutError } from '../producers/with-lease.ts';
import { printable } from '../lib/printable.ts';

/** The exit code of most programs for wrong usage. */
const EXIT_MISUSE = 2;
const EXIT_FAILURE = 1;
/** The exit code of `timeout` for a command that took too long. */
const EXIT_TIMED_OUT = 124;

/** Errors whose message is complete without a stack. */
const EXPECTED_ERRORS = [LessorError, EmbeddedServerError, CommandNotStartedError, RunTimedOutError];

/** Writes an error to stderr, unless commander did. */
export function reportError(error: unknown): void {
  if (error instanceof CommanderError) return;
  process.stderr.write(`error: ${printable(describeError(error))}\n`);
}

/** An expected error as a sentence, any other with its stack. */
export function describeError(error: unknown): string {
  if (EXPECTED_ERRORS.some((kind) => error instanceof kind)) return (error as Error).message;
  const { message, code, stack } = serializeError(error);
  if (kindOfSqlError(error) === 'unreachable')
    return `Postgres cannot be used: ${message}; check --database-url (DATABASE_URL)`;
  return stack ?? `${message}${code === undefined ? '' : ` (${code})`}`;
}

/** The exit code for an error: 2 for an invalid flag or payload, `failure` for anything else. */
export function exitCodeOf(error: unknown, failure = EXIT_FAILURE): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_MISUSE;
  if (error instanceof CommandNotStartedError) return error.exitCode;
  if (error instanceof RunTimedOutError) return EXIT_TIMED_OUT;
  if (!(error instanceof LessorError)) return failure;
  return error.code === 'invalid_configuration' || error.code === 'invalid_payload' ? EXIT_MISUSE : failure;
}
