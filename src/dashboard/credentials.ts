import { createHash, timingSafeEqual } from 'node:crypto';
import { InvalidConfigurationError } from '../contracts/index.ts';

/** Who may use the dashboard. */
export interface Credentials {
  username: string;
  password: string;
}

/**
 * Reads the credentials from the environment.
 * @returns undefined when neither setting is there
 * @throws {InvalidConfigurationError} when one of the two is missing or empty
 */
export function readCredentials(environment: NodeJS.ProcessEnv): Credentials | undefined {
  const { DASHBOARD_USERNAME: username, DASHBOARD_PASSWORD: password } = environment;
  if (username === undefined && password === undefined) return undefined;
  const credentials = { username: username ?? '', password: password ?? '' };
  assertComplete(credentials);
  return credentials;
}

/** @throws {InvalidConfigurationError} when the name or the password is empty, or the name could never be sent */
export function assertComplete({ username, password }: Credentials): void {
  if (username === '' || password === '') {
    throw new InvalidConfigurationError('set both DASHBOARD_USERNAME and DASHBOARD_PASSWORD, neither of them empty');
  }
  if (username.includes(':')) {
    throw new InvalidConfigurationError('DASHBOARD_USERNAME contains a colon, which HTTP basic authentication forbids');
  }
}

/** Compares in a time that tells nothing about either, their lengths included. */
export function matches(expected: Credentials, given: Credentials): boolean {
  const sameUsername = timingSafeEqual(digest(expected.username), digest(given.username));
  const samePassword = timingSafeEqual(digest(expected.password), digest(given.password));
  return sameUsername && samePassword;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
