import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import { printable, printableJson } from '../lib/printable.ts';

/** A column of a table. */
export interface Column<Row> {
  heading: string;
  show(row: Row): string;
  /** Ids are shortened, as git and docker do, where the terminal is too narrow. */
  isId?: boolean;
  /** Wrapped where the terminal is too narrow. At most one column of a table. */
  wraps?: boolean;
}

const SHORT_ID_LENGTH = 8;
const SHORTENED = 'Ids are shortened to fit the terminal; --json has them in full.\n';

/** Rows as a table for people, or as one JSON array for programs. */
export function renderRows<Row>(
  rows: readonly Row[],
  given: readonly Column<Row>[],
  { json, terminal }: { json: boolean; terminal: Terminal },
): string {
  if (json) return `${printableJson(rows)}\n`;
  if (rows.length === 0) return 'Nothing found.\n';
  const columns = given.map((column) => ({ ...column, show: (row: Row) => printable(column.show(row)) }));
  const whole = drawTable(rows, columns, terminal);
  if (!terminal.isTTY || !terminal.columns || widthOf(whole) <= terminal.columns) return `${whole}\n`;
  if (columns.some((column) => column.wraps)) return `${wrapTable(rows, columns, terminal)}\n`;
  const shortened = columns.map((column) =>
    column.isId === true ? { ...column, show: (row: Row) => column.show(row).slice(0, SHORT_ID_LENGTH) } : column,
  );
  return `${drawTable(rows, shortened, terminal)}\n${SHORTENED}`;
}

/** Where a table is shown. */
export interface Terminal {
  isTTY: boolean;
  /** Whether it shows colours, and nobody set NO_COLOR. */
  hasColors: boolean;
  /** 0 for a terminal of unknown width, or undefined, which the type of Node omits. */
  columns: number;
}

/** The terminal of a stream; a file or a pipe is one without colours. */
export function terminalOf(stream: NodeJS.WriteStream): Terminal {
  const { isTTY, columns } = stream;
  return { isTTY, columns, hasColors: isTTY && stream.hasColors() };
}

function drawTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  { hasColors }: Terminal,
  colWidths: (number | null)[] = [],
): string {
  const style = hasColors ? { head: ['bold'], border: ['grey'] } : { head: [], border: [] };
  const table = new Table({
    head: columns.map((column) => column.heading),
    style: { ...style, compact: true },
    colWidths,
    wordWrap: true,
  });
  table.push(...rows.map((row) => columns.map((column) => column.show(row))));
  return table.toString();
}

const NARROWEST_COLUMN = 20;

/** Columns of padding in a cell. */
const PADDING = 2;

/** Gives the wrapping column the width that the others leave. */
function wrapTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], terminal: Terminal): string {
  const others = columns.filter((column) => column.wraps !== true);
  const left = Math.max(NARROWEST_COLUMN, terminal.columns - widthOf(drawTable(rows, others, terminal)) - 1);
  // The table truncates words that are longer than a line.
  const longWord = new RegExp(String.raw`(\S{${left - PADDING}})(?=\S)`, 'g');
  const wrapped = columns.map((column) =>
    column.wraps === true ? { ...column, show: (row: Row) => column.show(row).replace(longWord, '$1\n') } : column,
  );
  const widths = columns.map((column) => (column.wraps === true ? left : null));
  return drawTable(rows, wrapped, terminal, widths);
}

function widthOf(table: string): number {
  // The first line is a border: it has no wide characters, and its colours have no width.
  const [border = ''] = table.split('\n');
  return stripVTControlCharacters(border).length;
}

/** An instant to the second, in UTC. */
export function showInstant(instant: Date | null): string {
  return instant === null ? '' : `${instant.toISOString().slice(0, 19)}Z`;
}
