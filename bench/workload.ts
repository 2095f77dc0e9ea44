import { randomUUID } from 'node:crypto';
import type { RunFinished, RunStarted } from '../src/contracts/index.ts';

/** A run that is started and finished. */
export interface Run {
  companyId: string;
  runId: string;
}

/** Which message of a run: that it started, or that it finished. */
export type Phase = 'start' | 'finish';

/** Runs of the companies, in rotation. */
export function planRuns(count: number, companyIds: readonly string[]): Run[] {
  return Array.from({ length: count }, (_, number) => ({
    companyId: companyIds[number % companyIds.length]!,
    runId: randomUUID(),
  }));
}

export function planCompanies(count: number): string[] {
  return Array.from({ length: count }, () => randomUUID());
}

export function startOf(run: Run): RunStarted {
  return { version: 1, ...run, startedAt: new Date().toISOString() };
}

export function finishOf(run: Run): RunFinished {
  return { version: 1, ...run, status: 'succeeded', finishedAt: new Date().toISOString() };
}
