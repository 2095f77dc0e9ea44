import Table from 'cli-table3';

/** One column: its heading and what it shows of a row. */
export type Columns<Row> = Record<string, (row: Row) => string>;

/** Rows as a table for people, or as one JSON array for programs. */
export function renderRows<Row>(rows: readonly Row[], columns: Columns<Row>, options: { json: boolean }): string {
  if (options.json) return `${JSON.stringify(rows)}\n`;
  if (rows.length === 0) return 'Nothing found.\n';
  const styles = process.stdout.isTTY ? { head: ['bold'], border: ['grey'] } : { head: [], border: [] };
  const table = new Table({ head: Object.keys(columns), style: { ...styles, compact: true } });
  table.push(...rows.map((row) => Object.values(columns).map((show) => show(row))));
  return `${table.toString()}\n`;
}

/** An instant to the second, in UTC. */
export function showInstant(instant: Date | null): string {
  return instant === null ? '' : `${instant.toISOString().slice(0, 19)}Z`;
}
