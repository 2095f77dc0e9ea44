import { sql } from 'drizzle-orm';
import { pgSchema, timestamp } from 'drizzle-orm/pg-core';
import type { AnyPgColumn } from 'drizzle-orm/pg-core';

/** All tables are in one Postgres schema, so that Lessor can share a database with its control plane. */
export const lessorSchema = pgSchema('lessor');

export const instant = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' });
export const createdAt = () => instant('created_at').notNull().defaultNow();
export const updatedAt = () => instant('updated_at').notNull().defaultNow();

/** A list of constants as SQL, for checks and index predicates: both are fixed when the migration is generated. */
export const sqlList = (values: readonly string[]) => sql.raw(values.map((value) => `'${value}'`).join(', '));
export const isOneOf = (column: AnyPgColumn, values: readonly string[]) => sql`${column} in (${sqlList(values)})`;
