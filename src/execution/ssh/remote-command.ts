import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientChannel } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { SshConnection } from '../../ssh/connection.ts';
import { LEASE_DIRECTORY_VARIABLE, RECORD_PROCESS } from '../../ssh/lease-directory.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import { quote, readShellPrograms } from '../../ssh/script.ts';
import { CommandStreams } from '../command-streams.ts';
import type { ReportedExit } from '../command-streams.ts';
import { InvalidCommandError } from '../driver.ts';
import type { Command, ProcessExit } from '../driver.ts';
import { processStreamsOf, reportedExitOf } from './channel-flow.ts';

/** The exit code of the script when the workspace cannot be entered; there is no file with its process id then. */
export const EXIT_NO_WORKSPACE = 125;

/** SSH names a dozen signals only. A command that another one ended has this exit code, as with `ssh`. */
const EXIT_UNNAMED_SIGNAL = 255;

/** How long a host may take to report the end of a killed command, or of a connection. */
const EXIT_REPORT_TIMEOUT_MS = 10_000;

/** How long the host may still answer the start of a command after the run's signal was aborted. */
const START_GRACE_MS = 5_000;

/** A signal can wait for a session, and then for 5 seconds for the process id of its command. */
const SIGNAL_TIMEOUT_MS = 10_000;

const PREPARE_COMMAND = new URL('./command.sh', import.meta.url);
const SIGNAL_GROUP = new URL('./signal-group.sh', import.meta.url);

/**
 * Variables that shells use themselves: setting them fails, or does not give them the value they are set to. Programs
 * read some of them all the same, so `env` sets them.
 */
const SHELL_VARIABLES =
  /^(_|BASH.*|COMP_.*|DIRSTACK|EPOCH.*|EUID|FUNCNAME|GROUPS|HISTCMD|IFS|LINENO|OLDPWD|OPTARG|OPTIND|PIPESTATUS|POSIXLY_CORRECT|PPID|PS4|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID)$/;

/** The script of a command on the host, and the file that its process id is written to. */
export interface CommandFiles {
  script: string;
  pid: string;
}

/**
 * The POSIX shell script that becomes a command: it records its process id, enters the workspace, and is replaced by the
 * command, so that exit code and signal are the command's own.
 */
export async function commandScript(
  { argv, env }: Pick<Command, 'argv' | 'env'>,
  { directory, workspacePath, files }: { directory: LeaseDirectory; workspacePath: string; files: CommandFiles },
): Promise<string> {
  const variables = Object.entries(env).filter(([name]) => name !== LEASE_DIRECTORY_VARIABLE);
  const exported = variables.filter(([name]) => !SHELL_VARIABLES.test(name));
  const ofShells = variables.filter(([name]) => SHELL_VARIABLES.test(name));
  return [
    await readShellPrograms(RECORD_PROCESS, PREPARE_COMMAND),
    `lessor_prepare_command ${wordsOf([files.script, workspacePath, files.pid, directory])}`,
    ...exported.map(([name, value]) => `export ${name}=${quote(value)}`),
    `exec ${wordsOf([...envPrefixOf(argv[0], ofShells), ...argv])}`,
    '',
  ].join('\n');
}

function wordsOf(words: readonly string[]): string {
  return words.map((word) => quote(word)).join(' ');
}

/** `env` before a command: for variables of shells, and for names that `exec` would take for an option. */
function envPrefixOf(file: string, variables: readonly (readonly [string, string])[]): string[] {
  if (variables.length === 0 && !file.startsWith('-')) return [];
  if (file.includes('=')) {
    const [name] = variables[0] ?? [];
    const detail = name === undefined ? 'a dash comes first' : `${name} is to be set for it`;
    throw new InvalidCommandError(`a command with a = in its name cannot be started where ${detail}; give its path`);
  }
  return ['env', '--', ...variables.map(([name, value]) => `${name}=${value}`)];
}

/** A command that runs on a host. */
export class RemoteCommand {
  readonly #connection: SshConnection;
  readonly #files: CommandFiles;
  readonly #command: Command;
  readonly #streams: CommandStreams;
  readonly #exit: Promise<ProcessExit>;
  #hasExited = false;

  private constructor(connection: SshConnection, files: CommandFiles, channel: ClientChannel, command: Command) {
    this.#connection = connection;
    this.#files = files;
    this.#command = command;
    this.#streams = new CommandStreams(processStreamsOf(channel), command, {
      exit: reportedExitOf(channel),
      // As for a local process that writes to a pipe without a reader.
      onReaderClosed: () => void this.send('SIGPIPE').catch(() => this.#streams.abandon()),
      detach: () => channel.close(),
    });
    this.#exit = this.#awaitExit();
    this.#exit.catch(() => undefined).finally(() => (this.#hasExited = true));
  }

  /**
   * Starts the command of a script that is on the host already. A start whose signal is aborted waits a little longer for
   * the host's answer: the command can have been started all the same, and is terminated only through its channel.
   */
  static async start(
    connection: SshConnection,
    files: CommandFiles,
    command: Command,
    signal: AbortSignal,
  ): Promise<RemoteCommand> {
    const abandoned = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const onAbort = () => {
      timer = setTimeout(() => abandoned.abort(signal.reason), START_GRACE_MS);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const channel = await connection.exec(`exec sh ${quote(files.script)}`, { signal: abandoned.signal });
      return new RemoteCommand(connection, files, channel, command);
    } finally {
      signal.removeEventListener('abort', onAbort);
      clearTimeout(timer);
    }
  }

  /**
   * Sends a signal to the command and to everything it started.
   * @throws {EnvironmentFailedError} when it could not be sent
   */
  async send(signal: NodeJS.Signals): Promise<void> {
    if (!this.#hasExited) await this.#signalGroup(signal);
  }

  /**
   * Waits for the exit, and terminates the command when the signal is aborted.
   * @throws {EnvironmentFailedError} when how the command ended cannot be known
   */
  async exited(signal: AbortSignal): Promise<ProcessExit> {
    const over = new AbortController();
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true, signal: over.signal });
    });
    try {
      await Promise.race([this.#exit, aborted]);
      if (signal.aborted) await this.#terminate();
      return await this.#exit;
    } finally {
      over.abort();
    }
  }

  /** Ends the command and everything it started that stayed in its process group. */
  async #terminate(): Promise<void> {
    await this.#signalGroup('SIGTERM', this.#command.killAfterMs).catch((error: unknown) => {
      this.#streams.abandon();
      throw error;
    });
    const late = new AbortController();
    const outcome = await Promise.race([
      this.#exit.finally(() => late.abort()),
      sleep(EXIT_REPORT_TIMEOUT_MS, 'late' as const, { signal: late.signal }).catch(() => 'exited' as const),
    ]);
    if (outcome !== 'late') return;
    this.#streams.abandon();
    throw new EnvironmentFailedError('driver_failed', 'the command was killed, but the host does not report its end');
  }

  /** With `killAfterMs`, SIGKILL follows for what is left of the group by then. */
  async #signalGroup(signal: NodeJS.Signals, killAfterMs?: number): Promise<void> {
    const args = [this.#files.pid, signal.slice('SIG'.length)];
    if (killAfterMs !== undefined) args.push(String(Math.ceil(killAfterMs / 100)));
    const limit = AbortSignal.timeout(SIGNAL_TIMEOUT_MS + (killAfterMs ?? 0));
    try {
      const program = await readShellPrograms(SIGNAL_GROUP);
      await this.#connection.runScript(program, { arguments: args, signal: limit });
    } catch (error) {
      // What a lost connection means for the command is reported by its exit.
      if (!this.#connection.isOpen) return;
      if (error !== limit.reason) throw error;
      const message = `the host does not answer that ${signal} was sent to the command, which may run on`;
      throw new EnvironmentFailedError('environment_unreachable', message, { cause: error });
    }
  }

  async #awaitExit(): Promise<ProcessExit> {
    const lost = this.#connection.closed.then((loss) => {
      const detail = loss?.message ?? 'the connection was closed';
      throw new EnvironmentFailedError(
        'environment_unreachable',
        `how the command ended is not known, and it may run on: ${detail}`,
        { cause: loss },
      );
    });
    const exit = await Promise.race([this.#streams.exited, lost]);
    // A connection that breaks closes its channels first.
    if (exit.code === null && exit.signal === null)
      await Promise.race([lost, sleep(EXIT_REPORT_TIMEOUT_MS, undefined, { ref: false })]);
    return processExitOf(exit);
  }
}

function processExitOf({ code, signal }: ReportedExit): ProcessExit {
  if (code !== null) return { code, signal: null };
  if (signal === null) {
    throw new EnvironmentFailedError(
      'driver_failed',
      'the host closed the session without reporting how the command ended; it may run on',
    );
  }
  const isNamed = Object.hasOwn(constants.signals, signal);
  return isNamed ? { code: null, signal: signal as NodeJS.Signals } : { code: EXIT_UNNAMED_SIGNAL, signal: null };
}
