import { fillPlaceholders } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';

/** A statement with the values to carry it out with. */
export interface PrecompiledStatement {
  readonly text: string;
  readonly values: (string | null)[];
}

/**
 * Writes a statement out, once, with a placeholder for each value, and returns what binds values to it. To put its text
 * together anew for a single run would take longer than all else that this process does about it.
 */
export function precompile<Name extends string>(
  statement: SQL,
): (values: Record<Name, string | null>) => PrecompiledStatement {
  const { sql: text, params } = new PgDialect().sqlToQuery(statement);
  return (values) => ({ text, values: fillPlaceholders(params, values) as (string | null)[] });
}
