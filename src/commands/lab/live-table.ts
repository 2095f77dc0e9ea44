import { clearScreenDown, moveCursor } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import { renderRows } from '../table.ts';
import type { Column } from '../table.ts';
import type { RowResult } from './row.ts';

const FRAMES = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏';
const FRAME_MS = 80;

/** Of the column that is cut short. */
const HEADING = 'seen';

/**
 * A table of rows. On a terminal it is drawn again and again while they change, each in one line, so that all of it can be
 * drawn over. At the end, and elsewhere only then, it is drawn whole.
 */
export class LiveTable {
  readonly #stdout: NodeJS.WriteStream;
  #results: readonly RowResult[] = [];
  #frame = 0;
  #drawnLines = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(stdout: NodeJS.WriteStream) {
    this.#stdout = stdout;
  }

  show(results: readonly RowResult[]): void {
    this.#results = [...results];
    this.#drawFrame();
    this.#timer ??= setInterval(() => this.#drawFrame(), FRAME_MS);
  }

  /** Leaves the table as it is now. */
  finish(): void {
    clearInterval(this.#timer);
    this.#drawOver(this.#render(this.#results));
  }

  #drawFrame(): void {
    const { isTTY, columns, rows } = this.#stdout;
    if (!isTTY || !(columns > 0)) return;
    this.#frame = (this.#frame + 1) % FRAMES.length;
    const [border = ''] = this.#render(this.#results.map((result) => ({ ...result, seen: '' }))).split('\n');
    const room = columns - stripVTControlCharacters(border).length + HEADING.length;
    const table = this.#render(this.#results.map((result) => ({ ...result, seen: cut(result.seen, room) })));
    const hasRoom = room >= HEADING.length && table.split('\n').length <= rows;
    if (hasRoom) this.#drawOver(table);
  }

  #drawOver(table: string): void {
    if (this.#drawnLines > 0) {
      moveCursor(this.#stdout, 0, -this.#drawnLines);
      clearScreenDown(this.#stdout);
    }
    this.#stdout.write(table);
    this.#drawnLines = table.split('\n').length - 1;
  }

  #render(results: readonly RowResult[]): string {
    const { isTTY, columns } = this.#stdout;
    return renderRows(results, columnsAt(FRAMES[this.#frame]!), { json: false, terminal: { isTTY, columns } });
  }
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, Math.max(0, length - 1))}…`;
}

function columnsAt(frame: string): Column<RowResult>[] {
  const shown = { waiting: '', running: frame, ok: 'ok', failed: 'failed' };
  return [
    { heading: 'row', show: ({ name }) => name },
    { heading: 'result', show: ({ state }) => shown[state] },
    { heading: HEADING, show: ({ seen }) => seen, wraps: true },
    { heading: 'ms', show: ({ milliseconds }) => (milliseconds === null ? '' : String(milliseconds)) },
  ];
}
