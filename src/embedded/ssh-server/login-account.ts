import { accessSync, constants } from 'node:fs';
import { userInfo } from 'node:os';
import { SshServerError } from './errors.ts';

/** Whom a login is for: the user of this process, as the machine knows them. */
export interface LoginAccount {
  readonly username: string;
  readonly home: string;
  readonly shell: string;
  /** The environment that a command starts with: nothing of this process but where programs are, and the language. */
  readonly environment: Readonly<Record<string, string>>;
}

/** What a login has when PATH is not set. */
const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin';

/**
 * @param surroundings The variables of this process, of which PATH and LANG go into a login.
 * @throws {@link SshServerError} when the machine does not know the user.
 */
export function readLoginAccount(surroundings: Readonly<Record<string, string | undefined>>): LoginAccount {
  const { username, homedir, shell: shellOfAccount } = readUser();
  const shell = shellOfAccount || '/bin/sh';
  const { PATH = DEFAULT_PATH, LANG } = surroundings;
  const environment = {
    PATH,
    HOME: homedir,
    USER: username,
    LOGNAME: username,
    SHELL: shell,
    // As if it were not the user's first shell: bash would read all of .bashrc for each command that a socket brings.
    SHLVL: '1',
    ...(LANG && { LANG }),
  };
  return { username, home: isDirectoryToEnter(homedir) ? homedir : '/', shell, environment };
}

function readUser() {
  try {
    return userInfo();
  } catch (error) {
    throw new SshServerError(
      'no_login_account',
      'This machine does not know the user that this process runs as, so nobody can log in. Run it as a user that has an account.',
      { cause: error },
    );
  }
}

/** A home directory that does not exist is no reason to refuse a login; sshd starts it in the root directory too. */
function isDirectoryToEnter(path: string): boolean {
  try {
    accessSync(`${path}/.`, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
