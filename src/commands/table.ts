import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';

/** One column of a list. */
export interface Column<Row> {
  heading: string;
  show(row: Row): string;
  /** Ids are cut short, as git and docker do, where the terminal is too narrow for them. */
  isId?: boolean;
}

const SHORT_ID_LENGTH = 8;
const SHORTENED = 'Ids are shortened to fit the terminal; --json has them whole.\n';

/** Rows as a table for people, or as one JSON array for programs. */
export function renderRows<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  { json, terminal }: { json: boolean; terminal: Terminal },
): string {
  if (json) return `${JSON.stringify(rows)}\n`;
  if (rows.length === 0) return 'Nothing found.\n';
  const whole = drawTable(rows, columns, terminal);
  if (!terminal.isTTY || widthOf(whole) <= terminal.columns) return `${whole}\n`;
  const shortened = columns.map((column) =>
    column.isId === true ? { ...column, show: (row: Row) => column.show(row).slice(0, SHORT_ID_LENGTH) } : column,
  );
  return `${drawTable(rows, shortened, terminal)}\n${SHORTENED}`;
}

/** What is known of where a table is shown. */
export interface Terminal {
  isTTY: boolean;
  columns: number;
}

function drawTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[], { isTTY }: Terminal): string {
  const style = isTTY ? { head: ['bold'], border: ['grey'] } : { head: [], border: [] };
  const table = new Table({ head: columns.map((column) => column.heading), style: { ...style, compact: true } });
  table.push(...rows.map((row) => columns.map((column) => column.show(row))));
  return table.toString();
}

function widthOf(table: string): number {
  // The first line is a border: no wide characters, and only its colours take no room.
  const [border = ''] = table.split('\n');
  return stripVTControlCharacters(border).length;
}

/** An instant to the second, in UTC. */
export function showInstant(instant: Date | null): string {
  return instant === null ? '' : `${instant.toISOString().slice(0, 19)}Z`;
}
