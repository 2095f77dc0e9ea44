import { recordProcess } from '../../ssh/end-processes.ts';
import { LEASE_DIRECTORY_VARIABLE } from '../../ssh/lease-directory.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import { quote } from '../../ssh/shell.ts';
import type { Command } from '../driver.ts';
import { InvalidCommandError } from '../invalid-command.ts';

/** What the script ends with when the workspace cannot be entered, and then there is no file with its process id. */
export const EXIT_NO_WORKSPACE = 125;

/**
 * Variables that shells take for their own: setting them fails, or does not give them the value they were set to.
 * Programs read some of them all the same, so they are set by `env`.
 */
const SHELL_VARIABLES =
  /^(_|BASH.*|COMP_.*|DIRSTACK|EPOCH.*|EUID|FUNCNAME|GROUPS|HISTCMD|IFS|LINENO|OLDPWD|OPTARG|OPTIND|PIPESTATUS|POSIXLY_CORRECT|PPID|PS4|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID)$/;

/** Where a script is, and what it writes its process id to. */
export interface CommandFiles {
  script: string;
  pid: string;
}

/**
 * The POSIX shell script that becomes a command: it tells its process id, enters the workspace, and is replaced by the
 * command, so that exit code and signal are the command's own. It removes itself, since it holds values of variables.
 */
export function commandScript(
  { argv, env }: Pick<Command, 'argv' | 'env'>,
  { place, workspacePath, files }: { place: LeaseDirectory; workspacePath: string; files: CommandFiles },
): string {
  const variables = Object.entries(env).filter(([name]) => name !== LEASE_DIRECTORY_VARIABLE);
  const exported = variables.filter(([name]) => !SHELL_VARIABLES.test(name));
  const ofShells = variables.filter(([name]) => SHELL_VARIABLES.test(name));
  return [
    `rm -f ${quote(files.script)}`,
    `cd ${quote(workspacePath)} || exit ${EXIT_NO_WORKSPACE}`,
    `${recordProcess(files.pid)} || exit ${EXIT_NO_WORKSPACE}`,
    `export ${LEASE_DIRECTORY_VARIABLE}=${quote(place)}`,
    ...exported.map(([name, value]) => `export ${name}=${quote(value)}`),
    `exec ${[...wordsOfEnv(argv[0], ofShells), ...argv].map((word) => quote(word)).join(' ')}`,
    '',
  ].join('\n');
}

/** What has to stand before a command, for variables of shells and for names that `exec` would take for an option. */
function wordsOfEnv(file: string, variables: readonly (readonly [string, string])[]): string[] {
  if (variables.length === 0 && !file.startsWith('-')) return [];
  if (file.includes('=')) {
    const [name] = variables[0] ?? [];
    const detail = name === undefined ? 'a dash comes first' : `${name} is to be set for it`;
    throw new InvalidCommandError(`a command with a = in its name cannot be started where ${detail}; give its path`);
  }
  return ['env', '--', ...variables.map(([name, value]) => `${name}=${value}`)];
}
