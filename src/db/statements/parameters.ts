import { sql } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';

/** Objects as one JSON parameter, for `jsonb_to_recordset`: the statement's text is the same for any number of them. */
export function jsonRows(rows: readonly object[]): SQL {
  return sql`${JSON.stringify(rows)}::text::jsonb`;
}

/** Ids as one parameter, for `= any(…)`. */
export function uuidArray(ids: readonly string[]): SQL {
  return sql`array(select jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb)::uuid)`;
}

/** Ids of an identity column as one parameter, for `= any(…)`. */
export function bigintArray(ids: readonly string[]): SQL {
  return sql`array(select jsonb_array_elements_text(${JSON.stringify(ids)}::text::jsonb)::bigint)`;
}
