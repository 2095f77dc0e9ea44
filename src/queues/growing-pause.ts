/** How pauses between tries grow: they double from the first to the longest. */
export interface PauseRange {
  firstMs: number;
  longestMs: number;
}

/** The pause after so many failures in a row, in milliseconds. */
export function growingPause(failures: number, { firstMs, longestMs }: PauseRange): number {
  return Math.min(firstMs * 2 ** (failures - 1), longestMs);
}

/** Between tries to reach a store that is away: soon at first, and never so rarely that its return goes unnoticed. */
export const WHILE_AWAY: PauseRange = { firstMs: 100, longestMs: 5_000 };
