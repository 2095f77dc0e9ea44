import { setTimeout as sleep } from 'node:timers/promises';
import type { LeaseStatus } from '../../contracts/index.ts';
import type { EnvironmentLease } from '../../environments/service/input.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Lab } from './lab.ts';

/** Something that is shown to hold, by doing it: a row of the table. */
export interface LabCheck {
  name: string;
  /**
   * Resolves to what was observed, in a sentence; rejects with what was not as expected. It restores what it has changed,
   * so that the checks after it can run in either case.
   */
  run(lab: Lab, signal: AbortSignal): Promise<string>;
}

/** The state of a check. */
export interface CheckResult {
  name: string;
  state: 'waiting' | 'running' | 'ok' | 'failed';
  seen: string;
  milliseconds: number | null;
}

/** For one check: a hundred times longer than it takes. */
const CHECK_TIMEOUT_MS = 60_000;

/** How long an aborted check may take to restore what it has changed. */
const GRACE_MS = 10_000;

/** @throws {Error} with what was found, unless it is as expected */
export function expected(isAsExpected: boolean, found: string): asserts isAsExpected {
  if (!isAsExpected) throw new Error(found);
}

/** Runs the checks in sequence, those after a failed one as well. `onChange` gets the state of all. */
export async function runChecks(
  checks: readonly LabCheck[],
  lab: Lab,
  { interrupted, onChange }: { interrupted: AbortSignal; onChange: (results: readonly CheckResult[]) => void },
): Promise<CheckResult[]> {
  const results = checks.map(({ name }): CheckResult => ({ name, state: 'waiting', seen: '', milliseconds: null }));
  for (const [index, check] of checks.entries()) {
    results[index] = { ...results[index]!, state: 'running' };
    onChange(results);
    results[index] = await runCheck(check, lab, interrupted);
    onChange(results);
  }
  return results;
}

async function runCheck(check: LabCheck, lab: Lab, interrupted: AbortSignal): Promise<CheckResult> {
  const { name } = check;
  if (interrupted.aborted) return { name, state: 'failed', seen: 'not run: interrupted', milliseconds: null };
  const startedAt = performance.now();
  const signal = AbortSignal.any([interrupted, AbortSignal.timeout(CHECK_TIMEOUT_MS)]);
  const took = () => Math.round(performance.now() - startedAt);
  try {
    const seen = await Promise.race([check.run(lab, signal), rejectAfterGrace(signal)]);
    return { name, state: 'ok', seen, milliseconds: took() };
  } catch (error) {
    const reason = messageOf(error);
    return { name, state: 'failed', seen: reason.replaceAll(/\s*\n\s*/g, '; '), milliseconds: took() };
  }
}

/** Rejects some time after the signal is aborted: what is in flight may not react to it. */
function rejectAfterGrace(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const rejectLater = () => setTimeout(() => reject(signal.reason as Error), GRACE_MS).unref();
    signal.addEventListener('abort', rejectLater, { once: true });
  });
}

const POLL_INTERVAL_MS = 50;

/** Polls until something is found, and resolves to it. Rejects with the reason of the signal. */
export async function waitUntil<Value>(find: () => Promise<Value | undefined>, signal: AbortSignal): Promise<Value> {
  for (;;) {
    signal.throwIfAborted();
    const found = await find();
    if (found !== undefined) return found;
    await sleep(POLL_INTERVAL_MS);
  }
}

/** Waits until a lease has a status, and resolves to its row. */
export async function untilLeaseIs(
  lab: Lab,
  leaseId: string,
  status: LeaseStatus,
  signal: AbortSignal,
): Promise<EnvironmentLease> {
  let found: EnvironmentLease | null = null;
  try {
    return await waitUntil(async () => {
      found = await lab.environments.getLeaseById(leaseId);
      return found?.status === status ? found : undefined;
    }, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new Error(`the lease is ${describe(found)} instead of ${status}`, { cause: error });
  }
}

function describe(lease: EnvironmentLease | null): string {
  if (lease === null) return 'unknown';
  return lease.failureReason === null ? lease.status : `${lease.status} (${lease.failureReason})`;
}
