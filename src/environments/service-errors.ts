import { RejectedError } from '../contracts/index.ts';
import type { RejectionCode } from '../contracts/index.ts';

/** Refuses an operation of the environment service, with the codes that jobs are refused with. */
export function denied(code: RejectionCode, reason: string): RejectedError {
  return new RejectedError({ code, reason });
}
