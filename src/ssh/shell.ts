import { EnvironmentFailedError } from '../contracts/index.ts';

/**
 * Quotes text for a POSIX shell: it becomes one word, of exactly these characters.
 * @throws {EnvironmentFailedError} `driver_failed` for text with a NUL, which no process can be given
 */
export function quote(text: string): string {
  if (text.includes('\0')) {
    throw new EnvironmentFailedError(
      'driver_failed',
      'text with a NUL character cannot be given to a process; remove it',
    );
  }
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
