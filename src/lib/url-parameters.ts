import { readFileSync } from 'node:fs';
import { InvalidConfigurationError } from '../contracts/index.ts';

/** The name of an unknown parameter of a URL, for an error: text that is no name may be a part of a password. */
export function parameterName(name: string): string {
  return /^\w{1,40}$/.test(name) ? name : '(not a name)';
}

/**
 * Reads a certificate or key that a parameter of a URL names.
 * @throws {InvalidConfigurationError} when the file cannot be read
 */
export function readPem(path: string, parameter: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new InvalidConfigurationError(`the file that ${parameter} names cannot be read: ${code}`);
  }
}
