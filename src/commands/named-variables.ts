import { InvalidConfigurationError } from '../contracts/index.ts';

/**
 * Reads what `--env` was given: `NAME=VALUE`, or `NAME` for the value it has here. The option itself cannot do it:
 * commander repeats a wrong value, which here can be a secret.
 * @throws {InvalidConfigurationError} for a variable that has no value here
 */
export function readVariables(
  given: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  return Object.fromEntries(
    given.map((variable) => {
      const separator = variable.indexOf('=');
      if (separator !== -1) return [variable.slice(0, separator), variable.slice(separator + 1)];
      const value = env[variable];
      if (value !== undefined) return [variable, value];
      throw new InvalidConfigurationError(`--env ${variable} has no value here: set ${variable}, or give NAME=VALUE`);
    }),
  );
}
