import type { Lab } from './lab.ts';
import { messageOf } from '../../lib/errors.ts';

/** Something that is shown to hold, by doing it. */
export interface LabRow {
  name: string;
  /**
   * Resolves to what was seen, in a sentence; rejects with what was not as it has to be. It puts right what it has
   * changed, so that the rows after it can be tried whatever came of it.
   */
  run(lab: Lab, signal: AbortSignal): Promise<string>;
}

/** How a row stands. */
export interface RowResult {
  name: string;
  state: 'waiting' | 'running' | 'ok' | 'failed';
  seen: string;
  milliseconds: number | null;
}

/** For all that one row does: a hundred times longer than it takes. */
const ROW_LIMIT_MS = 60_000;

/** How long a row that has to stop may take to put right what it has changed. */
const GRACE_MS = 10_000;

/** @throws {Error} with what was found, unless it is as it has to be */
export function expected(isAsExpected: boolean, found: string): asserts isAsExpected {
  if (!isAsExpected) throw new Error(found);
}

/** Tries each row in its turn, those after one that failed as well. `onChange` is told how all stand. */
export async function tryRows(
  rows: readonly LabRow[],
  lab: Lab,
  { interrupted, onChange }: { interrupted: AbortSignal; onChange: (results: readonly RowResult[]) => void },
): Promise<RowResult[]> {
  const results = rows.map(({ name }): RowResult => ({ name, state: 'waiting', seen: '', milliseconds: null }));
  for (const [index, row] of rows.entries()) {
    results[index] = { ...results[index]!, state: 'running' };
    onChange(results);
    results[index] = await tryRow(row, lab, interrupted);
    onChange(results);
  }
  return results;
}

async function tryRow(row: LabRow, lab: Lab, interrupted: AbortSignal): Promise<RowResult> {
  const { name } = row;
  if (interrupted.aborted) return { name, state: 'failed', seen: 'not tried: interrupted', milliseconds: null };
  const begunAt = performance.now();
  const signal = AbortSignal.any([interrupted, AbortSignal.timeout(ROW_LIMIT_MS)]);
  const took = () => Math.round(performance.now() - begunAt);
  try {
    const seen = await Promise.race([row.run(lab, signal), rejection(signal)]);
    return { name, state: 'ok', seen, milliseconds: took() };
  } catch (error) {
    const reason = messageOf(error);
    return { name, state: 'failed', seen: reason.replaceAll(/\s*\n\s*/g, '; '), milliseconds: took() };
  }
}

/** Rejects some time after the signal is aborted: what is under way may not heed it. */
function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const giveUp = () => setTimeout(() => reject(signal.reason as Error), GRACE_MS).unref();
    signal.addEventListener('abort', giveUp, { once: true });
  });
}
