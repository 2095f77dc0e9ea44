import { CommanderError } from 'commander';
import { serializeError } from '../consumers/error-serializer.ts';
import { LessorError } from '../contracts/index.ts';
import { kindOfSqlError } from '../db/sql-errors.ts';
import { EmbeddedServerError } from '../embedded/errors.ts';
import { CommandNotStartedError } from '../execution/local-driver.ts';

/** Exit code for something called wrongly, as most commands have it. */
const EXIT_MISUSE = 2;
const EXIT_FAILURE = 1;

/** Errors whose message says all. */
const FORESEEN = [LessorError, EmbeddedServerError, CommandNotStartedError];

/** Says on stderr what went wrong. */
export function reportError(error: unknown): void {
  // Commander has said it already.
  if (error instanceof CommanderError) return;
  process.stderr.write(`error: ${describeError(error)}\n`);
}

/** What went wrong: in one sentence if it was foreseen, else with where it happened. */
export function describeError(error: unknown): string {
  if (FORESEEN.some((kind) => error instanceof kind)) return (error as Error).message;
  const { message, code, stack } = serializeError(error);
  if (kindOfSqlError(error) === 'unreachable')
    return `Postgres cannot be used: ${message}; check --database-url (DATABASE_URL)`;
  return stack ?? `${message}${code === undefined ? '' : ` (${code})`}`;
}

/** The exit code for an error: 2 when a flag or payload was wrong, `failure` for anything else. */
export function exitCodeOf(error: unknown, failure = EXIT_FAILURE): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_MISUSE;
  if (error instanceof CommandNotStartedError) return error.exitCode;
  if (!(error instanceof LessorError)) return failure;
  return error.code === 'invalid_configuration' || error.code === 'invalid_payload' ? EXIT_MISUSE : failure;
}
