import { stripVTControlCharacters } from 'node:util';
import { WriteStream } from 'node:tty';
import { expect, onTestFinished, test, vi } from 'vitest';
import { renderRows, terminalOf } from '../../src/commands/table.ts';
import type { Column } from '../../src/commands/table.ts';

// cli-table3 decides by TERM when it is loaded, which an ordinary user's environment need not have.
vi.hoisted(() => (process.env['FORCE_COLOR'] = '1'));

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

const drawn = (terminal: { isTTY: boolean; columns: number; hasColors: boolean }) =>
  stripVTControlCharacters(renderRows(ROWS, COLUMNS, { json: false, terminal }))
    .trimEnd()
    .split('\n');

test.for([120, 60, 40])('a table on a terminal of %i columns has no wider line, and no truncated text', (columns) => {
  const lines = drawn({ isTTY: true, columns, hasColors: true });
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
  const details = lines.filter((line) => line.startsWith('│')).map((line) => line.split('│')[2]!.trim());
  expect(details.join('').replaceAll(' ', '')).toBe(
    `detail${ROWS.map(({ detail }) => detail).join('')}`.replaceAll(' ', ''),
  );
});

test.for([
  ['outside a terminal', { isTTY: false, columns: 40, hasColors: false }],
  ['on a terminal of unknown width', { isTTY: true, columns: 0, hasColors: false }],
] as const)('%s each row of a table is one line', ([, terminal]) => {
  const lines = drawn(terminal).filter((line) => line.startsWith('│'));
  expect(lines).toHaveLength(1 + ROWS.length);
  expect(lines[1]).toContain(ROWS[0]!.detail);
});

test('a table shows control characters of stored text as escapes', () => {
  const rows = [{ name: 'a\u001b]0;title\u0007', detail: 'b\u009b31m\u202e' }];
  const table = renderRows(rows, COLUMNS, { json: false, terminal: { isTTY: false, columns: 0, hasColors: false } });
  expect(table).toContain('a\\u{1b}]0;title\\u{7}');
  expect(table).toContain('b\\u{9b}31m\\u{202e}');
});

const drawnWith = (hasColors: boolean) =>
  renderRows(ROWS, COLUMNS, { json: false, terminal: { isTTY: true, columns: 120, hasColors } });

test('a table has colours where the terminal has them, and none otherwise', () => {
  expect(drawnWith(true)).toContain('\u001b[');
  expect(drawnWith(false)).not.toContain('\u001b');
  expect(stripVTControlCharacters(drawnWith(true))).toBe(drawnWith(false));
});

test.for([
  ['NO_COLOR', '1', false],
  ['TERM', 'dumb', false],
  ['TERM', 'xterm-256color', true],
] as const)('a terminal with %s=%s has colours: %s', ([variable, value, expected]) => {
  for (const name of ['NO_COLOR', 'FORCE_COLOR', 'NODE_DISABLE_COLORS', 'COLORTERM', 'CI', 'TMUX'])
    vi.stubEnv(name, undefined);
  vi.stubEnv('TERM', 'xterm-256color');
  vi.stubEnv(variable, value);
  onTestFinished(() => void vi.unstubAllEnvs());
  const stream = Object.assign(Object.create(WriteStream.prototype) as WriteStream, { isTTY: true, columns: 80 });
  expect(terminalOf(stream)).toEqual({ isTTY: true, columns: 80, hasColors: expected });
});
