import { LeaseDeniedError } from '../contracts/index.ts';
import type { RefusalCode } from '../contracts/index.ts';

/** Refuses an operation of the environment service, with the codes that jobs are refused with. */
export function denied(code: RefusalCode, reason: string): LeaseDeniedError {
  return new LeaseDeniedError({ code, reason });
}
