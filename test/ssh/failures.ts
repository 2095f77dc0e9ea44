import { expect } from 'vitest';
import { EnvironmentFailedError } from '../../src/contracts/index.ts';
import type { EnvironmentFailureCode } from '../../src/contracts/index.ts';

/** How an attempt failed that has to fail with a code, and after how long. */
export async function failureOf(
  attempt: Promise<unknown>,
  code: EnvironmentFailureCode,
): Promise<{ message: string; afterMs: number }> {
  const before = performance.now();
  const error: unknown = await attempt.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  const afterMs = performance.now() - before;
  expect(error).toBeInstanceOf(EnvironmentFailedError);
  expect(error).toMatchObject({ code });
  return { message: (error as Error).message, afterMs };
}
