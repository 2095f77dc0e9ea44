import { hasCode, messageOf } from '../../lib/errors.ts';

/** Whether a file operation failed because nothing is at the path. */
export function isMissing(error: unknown): boolean {
  return hasCode(error, 'ENOENT', 'ENOTDIR');
}

/** Why a file operation failed, for people: without the path, which stands beside it. */
export function reasonOf(error: unknown): string {
  return messageOf(error).replace(/^([A-Z]+: [^,]+), .*$/s, '$1');
}
