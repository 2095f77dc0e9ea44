import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientChannel } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { SshConnection } from '../../ssh/connection.ts';
import { quote } from '../../ssh/shell.ts';
import type { Command, ProcessEnd } from '../driver.ts';
import { CommandStreams } from '../command-streams.ts';
import type { ToldEnd } from '../command-streams.ts';
import { endToldBy, streamsOf } from './channel-flow.ts';
import type { CommandFiles } from './command-script.ts';

/** SSH has names for a dozen signals only. A command that another one ended has this code, as with `ssh`. */
const EXIT_UNNAMED_SIGNAL = 255;

/** How long a host may take over telling the end of a command that was killed, or of a connection. */
const LAST_WORDS_MS = 10_000;

/**
 * Waits for the process id of a command, which leads its process group: a signal can come before it has started. Some
 * numbers would be everybody.
 */
const READ_GROUP = `
tries=0
while [ ! -s "$1" ] && [ "$tries" -lt 50 ]; do tries=$((tries + 1)); sleep 0.1 2>/dev/null || sleep 1; done
[ -s "$1" ] && read -r group < "$1" || exit 0
case $group in ''|*[!0-9]*|0|1) exit 0 ;; esac
`;

/** Sends the group of the process id in the file $1 the signal $2. */
const SEND_SIGNAL = `${READ_GROUP}
kill -s "$2" -- "-$group" 2>/dev/null || :
`;

/** Sends the group SIGTERM, and SIGKILL to what is left of it $2 tenths of a second later. */
const END_GROUP = `${READ_GROUP}
kill -s TERM -- "-$group" 2>/dev/null || exit 0
left=$2
while [ "$left" -gt 0 ] && kill -s 0 -- "-$group" 2>/dev/null; do
  if sleep 0.1 2>/dev/null; then left=$((left - 1)); else sleep 1; left=$((left - 10)); fi
done
kill -s KILL -- "-$group" 2>/dev/null || :
`;

/** A command that runs on a host. */
export class RemoteCommand {
  readonly #connection: SshConnection;
  readonly #files: CommandFiles;
  readonly #command: Command;
  readonly #streams: CommandStreams;
  readonly #end: Promise<ProcessEnd>;
  #hasEnded = false;

  private constructor(connection: SshConnection, files: CommandFiles, channel: ClientChannel, command: Command) {
    this.#connection = connection;
    this.#files = files;
    this.#command = command;
    this.#streams = new CommandStreams(streamsOf(channel), command, {
      end: endToldBy(channel),
      // As a process is ended that writes to a pipe nobody reads.
      onReaderGone: () => void this.send('SIGPIPE').catch(() => this.#streams.abandon()),
      letGo: () => channel.close(),
    });
    this.#end = this.#awaitEnd();
    this.#end.catch(() => undefined).finally(() => (this.#hasEnded = true));
  }

  /** Starts what a script, which is on the host already, says. */
  static async start(connection: SshConnection, files: CommandFiles, command: Command): Promise<RemoteCommand> {
    // Not by a signal: a start that is given up could have begun all the same, and nobody would end it.
    const channel = await connection.exec(`exec sh ${quote(files.script)}`);
    return new RemoteCommand(connection, files, channel, command);
  }

  /**
   * Sends a signal to the command and to all it started.
   * @throws {EnvironmentFailedError} when it could not be sent
   */
  async send(signal: NodeJS.Signals): Promise<void> {
    if (!this.#hasEnded) await this.#run(SEND_SIGNAL, signal.slice('SIG'.length));
  }

  /**
   * Waits for the end, bringing it about when the signal is aborted.
   * @throws {EnvironmentFailedError} when how the command ended cannot be known
   */
  async ended(signal: AbortSignal): Promise<ProcessEnd> {
    const over = new AbortController();
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true, signal: over.signal });
    });
    try {
      await Promise.race([this.#end, aborted]);
      if (signal.aborted) await this.#bringToAnEnd();
      return await this.#end;
    } finally {
      over.abort();
    }
  }

  /** All that the command has started is ended as well, as far as it stayed in its group. */
  async #bringToAnEnd(): Promise<void> {
    await this.#run(END_GROUP, String(Math.ceil(this.#command.killAfterMs / 100)));
    const late = new AbortController();
    const outcome = await Promise.race([
      this.#end.finally(() => late.abort()),
      sleep(LAST_WORDS_MS, 'late' as const, { signal: late.signal }).catch(() => 'ended' as const),
    ]);
    if (outcome !== 'late') return;
    this.#streams.abandon();
    throw new EnvironmentFailedError('driver_failed', 'the command was killed, but the host does not tell of its end');
  }

  async #run(script: string, argument: string): Promise<void> {
    try {
      await this.#connection.runScript(script, {
        arguments: [this.#files.pid, argument],
        signal: new AbortController().signal,
      });
    } catch (error) {
      // What a lost connection means for the command is told by its end.
      if (this.#connection.isOpen) throw error;
    }
  }

  async #awaitEnd(): Promise<ProcessEnd> {
    const lost = this.#connection.closed.then((loss) => {
      const detail = loss?.message ?? 'the connection was closed';
      throw new EnvironmentFailedError(
        'environment_unreachable',
        `how the command ended is not known, and it may run on: ${detail}`,
        { cause: loss },
      );
    });
    const end = await Promise.race([this.#streams.ended, lost]);
    // A connection that breaks closes its channels first.
    if (end.code === null && end.signal === null)
      await Promise.race([lost, sleep(LAST_WORDS_MS, undefined, { ref: false })]);
    return processEndOf(end);
  }
}

function processEndOf({ code, signal }: ToldEnd): ProcessEnd {
  if (code !== null) return { code, signal: null };
  if (signal === null) {
    throw new EnvironmentFailedError(
      'driver_failed',
      'the host closed the session without telling how the command ended; it may run on',
    );
  }
  const isNamed = Object.hasOwn(constants.signals, signal);
  return isNamed ? { code: null, signal: signal as NodeJS.Signals } : { code: EXIT_UNNAMED_SIGNAL, signal: null };
}
