import { constants } from 'node:os';
import { clearScreenDown, moveCursor } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import ora from 'ora';
import { printableJson } from '../../lib/printable.ts';
import { firstShutdownSignal } from '../service-process.ts';
import { renderRows, terminalOf } from '../table.ts';
import type { Column } from '../table.ts';
import { runChecks } from './check.ts';
import type { CheckResult, LabCheck } from './check.ts';
import { connectionCheck, hostKeyCheck } from './connection-checks.ts';
import { executionCheck, restoreCheck, uploadCheck } from './execution-checks.ts';
import { openLab } from './lab.ts';
import type { Lab } from './lab.ts';
import { releaseCheck, unreachableHostChecks } from './release-checks.ts';

/** Flags of the command. */
export interface LabFlags {
  json: boolean;
}

/** Runs all checks on stores and an sshd of its own, and shows the result of each. */
export async function runLab({ json }: LabFlags): Promise<void> {
  const interrupted = new AbortController();
  void abortOnSignal(interrupted);
  const lab = await openWithSpinner();
  try {
    const results = await showChecks(lab, json, interrupted.signal);
    const ok = results.every(({ state }) => state === 'ok');
    if (json) process.stdout.write(`${printableJson(reportOf(ok, results))}\n`);
    if (!ok) process.exitCode ??= 1;
  } finally {
    await lab.close();
  }
}

async function abortOnSignal(interrupted: AbortController): Promise<void> {
  const signal = await firstShutdownSignal();
  process.exitCode = 128 + constants.signals[signal];
  interrupted.abort(new Error('interrupted'));
}

async function openWithSpinner(): Promise<Lab> {
  const spinner = ora({
    text: 'starting Postgres, sshd and a worker',
    stream: process.stderr,
    discardStdin: false,
    color: terminalOf(process.stderr).hasColors && 'cyan',
    isSilent: !process.stderr.isTTY || !process.stderr.columns,
  }).start();
  try {
    return await openLab();
  } finally {
    spinner.stop();
  }
}

async function showChecks(lab: Lab, json: boolean, interrupted: AbortSignal): Promise<CheckResult[]> {
  if (json) return runChecks(labChecks(), lab, { interrupted, onChange: () => undefined });
  process.stdout.write(`sshd at ${lab.server.host}:${lab.server.port}\n`);
  const table = new LiveTable(process.stdout);
  try {
    return await runChecks(labChecks(), lab, { interrupted, onChange: (results) => table.show(results) });
  } finally {
    table.finish();
  }
}

function reportOf(ok: boolean, results: readonly CheckResult[]) {
  const rows = results.map(({ name, state, seen, milliseconds }) => ({ name, ok: state === 'ok', seen, milliseconds }));
  return { ok, rows };
}

/** Every check, in this order. */
function labChecks(): LabCheck[] {
  return [
    connectionCheck,
    hostKeyCheck,
    uploadCheck,
    executionCheck,
    restoreCheck,
    releaseCheck,
    ...unreachableHostChecks(),
  ];
}

const FRAMES = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏';
const FRAME_MS = 80;

/** Of the column that is truncated. */
const HEADING = 'seen';

/**
 * A table of checks. On a terminal it is redrawn in place while they run, each in one line. At the end, and elsewhere only
 * then, it is drawn whole.
 */
class LiveTable {
  readonly #stdout: NodeJS.WriteStream;
  #results: readonly CheckResult[] = [];
  #frame = 0;
  #drawnLines = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(stdout: NodeJS.WriteStream) {
    this.#stdout = stdout;
  }

  show(results: readonly CheckResult[]): void {
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
    const table = this.#render(this.#results.map((result) => ({ ...result, seen: truncate(result.seen, room) })));
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

  #render(results: readonly CheckResult[]): string {
    return renderRows(results, columnsAt(FRAMES[this.#frame]!), { json: false, terminal: terminalOf(this.#stdout) });
  }
}

function truncate(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, Math.max(0, length - 1))}…`;
}

function columnsAt(frame: string): Column<CheckResult>[] {
  const shown = { waiting: '', running: frame, ok: 'ok', failed: 'failed' };
  return [
    { heading: 'row', show: ({ name }) => name },
    { heading: 'result', show: ({ state }) => shown[state] },
    { heading: HEADING, show: ({ seen }) => seen, wraps: true },
    { heading: 'ms', show: ({ milliseconds }) => (milliseconds === null ? '' : String(milliseconds)) },
  ];
}
