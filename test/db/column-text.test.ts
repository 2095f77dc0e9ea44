import { array, asyncProperty, assert, constantFrom, integer, oneof, option, string, uuid } from 'fast-check';
import { sql } from 'drizzle-orm';
import { expect, test } from 'vitest';
import { precompile } from '../../src/db/pipeline.ts';
import { arrayLiteral, arrayParam } from '../../src/db/statements/parameters.ts';
import { useDatabase } from '../support/database.ts';

const database = useDatabase();

const readColumn = precompile<'values'>(sql`
  select value from unnest(${arrayParam('text', 'values')}, array[1]) with ordinality as given (value, filler, ordinal)
  order by ordinal`);

const storable = string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '').toWellFormed());
const likeSyntax = constantFrom(
  'null',
  'NULL',
  '',
  ' ',
  '{}',
  '{a,b}',
  '"',
  '\\',
  ',',
  '2026-01-01T00:00:00.000+02:00',
);
const value = oneof(storable, likeSyntax, uuid(), integer().map(String));

test('values of a column arrive as they were, whatever stands in them', async () => {
  await assert(
    asyncProperty(array(option(value, { nil: undefined }), { minLength: 1, maxLength: 5 }), async (values) => {
      const [rows] = await database.pool.pipeline([readColumn({ values: arrayLiteral(values) })]);
      const expected = values.every((each) => each === undefined) ? [null] : values.map((each) => each ?? null);
      expect(rows).toEqual(expected.map((each) => ({ value: each })));
    }),
  );
});
