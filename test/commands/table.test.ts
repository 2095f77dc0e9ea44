import { stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { renderRows } from '../../src/commands/table.ts';
import type { Column } from '../../src/commands/table.ts';

interface Check {
  name: string;
  detail: string;
}

const COLUMNS: readonly Column<Check>[] = [
  { heading: 'check', show: (check) => check.name },
  { heading: 'detail', show: (check) => check.detail, wraps: true },
];

const FINGERPRINT = 'SHA256:uNiVztksCsDhcc0u9e8BrrQXVUpKTIDTMczCvj3tD2s';
const ROWS: readonly Check[] = [
  { name: 'host key', detail: `it offers ${FINGERPRINT}, and another one was expected of it` },
  { name: 'workspace', detail: 'a file was written' },
];

const drawn = (terminal: { isTTY: boolean; columns: number }) =>
  stripVTControlCharacters(renderRows(ROWS, COLUMNS, { json: false, terminal }))
    .trimEnd()
    .split('\n');

test.for([120, 60, 40])('a table on a terminal of %i columns has no wider line, and no truncated text', (columns) => {
  const lines = drawn({ isTTY: true, columns });
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
  const details = lines.filter((line) => line.startsWith('│')).map((line) => line.split('│')[2]!.trim());
  expect(details.join('').replaceAll(' ', '')).toBe(
    `detail${ROWS.map(({ detail }) => detail).join('')}`.replaceAll(' ', ''),
  );
});

test.for([
  ['outside a terminal', { isTTY: false, columns: 40 }],
  ['on a terminal of unknown width', { isTTY: true, columns: 0 }],
] as const)('%s each row of a table is one line', ([, terminal]) => {
  const lines = drawn(terminal).filter((line) => line.startsWith('│'));
  expect(lines).toHaveLength(1 + ROWS.length);
  expect(lines[1]).toContain(ROWS[0]!.detail);
});

test('a table shows control characters of stored text as escapes', () => {
  const rows = [{ name: 'a\u001b]0;title\u0007', detail: 'b\u009b31m\u202e' }];
  const table = renderRows(rows, COLUMNS, { json: false, terminal: { isTTY: false, columns: 0 } });
  expect(table).toContain('a\\u{1b}]0;title\\u{7}');
  expect(table).toContain('b\\u{9b}31m\\u{202e}');
});
