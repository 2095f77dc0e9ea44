import { LessorError } from '../contracts/index.ts';
import type { Command } from './driver.ts';

/** What a command holds cannot be given to a process. The message names the argument or variable, never a value. */
export class InvalidCommandError extends LessorError {
  constructor(message: string) {
    super('invalid_configuration', message);
  }
}

/** As POSIX has the names of variables. Others cannot be set by a shell. */
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Refuses what could not be delivered exactly as it is.
 * @throws {InvalidCommandError}
 */
export function checkCommand({ argv, env }: Pick<Command, 'argv' | 'env'>): void {
  for (const [index, argument] of argv.entries()) {
    checkText(argument, index === 0 ? 'the command' : `argument ${index} of the command`);
  }
  for (const [name, value] of Object.entries(env)) {
    if (!VARIABLE_NAME.test(name)) {
      throw new InvalidCommandError(
        `${JSON.stringify(name)} is no name of a variable: only letters, digits and underscores, and no digit first`,
      );
    }
    checkText(value, `the value of ${name}`);
  }
}

function checkText(text: string, what: string): void {
  if (text.includes('\0'))
    throw new InvalidCommandError(`${what} holds a NUL character, which no process can be given`);
  if (!text.isWellFormed()) throw new InvalidCommandError(`${what} is not valid Unicode: it holds a lone surrogate`);
}
