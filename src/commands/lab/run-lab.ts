import { constants } from 'node:os';
import ora from 'ora';
import { firstShutdownSignal } from '../service-process.ts';
import { openLab } from './lab.ts';
import type { Lab } from './lab.ts';
import { LiveTable } from './live-table.ts';
import { tryRows } from './row.ts';
import type { RowResult } from './row.ts';
import { labRows } from './rows.ts';

/** What it is told on the command line. */
export interface LabFlags {
  json: boolean;
}

/** Tries all rows on stores and a server of its own, and shows what became of each. */
export async function runLab({ json }: LabFlags): Promise<void> {
  const interrupted = new AbortController();
  void abortOnSignal(interrupted);
  const lab = await openWithSpinner();
  try {
    const results = await showRows(lab, json, interrupted.signal);
    const ok = results.every(({ state }) => state === 'ok');
    if (json) process.stdout.write(`${JSON.stringify(reportOf(ok, results))}\n`);
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
    isSilent: !process.stderr.isTTY || !process.stderr.columns,
  }).start();
  try {
    return await openLab();
  } finally {
    spinner.stop();
  }
}

async function showRows(lab: Lab, json: boolean, interrupted: AbortSignal): Promise<RowResult[]> {
  if (json) return tryRows(labRows(), lab, { interrupted, onChange: () => undefined });
  process.stdout.write(`sshd at ${lab.server.host}:${lab.server.port}\n`);
  const table = new LiveTable(process.stdout);
  try {
    return await tryRows(labRows(), lab, { interrupted, onChange: (results) => table.show(results) });
  } finally {
    table.finish();
  }
}

function reportOf(ok: boolean, results: readonly RowResult[]) {
  const rows = results.map(({ name, state, seen, milliseconds }) => ({ name, ok: state === 'ok', seen, milliseconds }));
  return { ok, rows };
}
