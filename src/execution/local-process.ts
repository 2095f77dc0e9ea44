import { spawn } from 'node:child_process';
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandStreams } from './command-streams.ts';
import type { Command, ProcessEnd } from './driver.ts';

/** A command to run on this machine. */
export interface LocalCommand {
  file: string;
  args: readonly string[];
  /** The whole environment of the process. */
  env: NodeJS.ProcessEnv;
  /** Default that of this process. */
  cwd?: string | undefined;
  /** Default those of this process. */
  streams?: Pick<Command, 'stdin' | 'stdout' | 'stderr'> | undefined;
  /** Whether a terminal is attached, which then delivers its signals to the process by itself. */
  terminal: boolean;
  /** When aborted, the process is ended: SIGTERM, and SIGKILL after `killAfterMs`. */
  signal: AbortSignal;
  killAfterMs: number;
}

/** A command that could not be started. */
export class CommandNotStartedError extends Error {
  override readonly name = 'CommandNotStartedError';
  /** The exit code that shells give for it: 127 for a command that is not there, 126 for one that cannot be run. */
  readonly exitCode: 126 | 127;

  constructor(file: string, cause: NodeJS.ErrnoException) {
    const isMissing = cause.code === 'ENOENT' || file === '';
    super(`${file || "''"} cannot be started: ${isMissing ? 'there is no such command' : cause.message}`, { cause });
    this.exitCode = isMissing ? 127 : 126;
  }
}

/** A running process. */
export class LocalProcess {
  readonly #child: ChildProcess;
  readonly #command: LocalCommand;
  readonly #streams: CommandStreams | undefined;

  private constructor(child: ChildProcess, command: LocalCommand) {
    this.#child = child;
    this.#command = command;
    this.#streams = command.streams && carryStreams(child, command.streams, () => this.send('SIGPIPE'));
  }

  /** @throws {CommandNotStartedError} */
  static async start(command: LocalCommand): Promise<LocalProcess> {
    try {
      const child = spawn(command.file, command.args, {
        env: command.env,
        stdio: command.streams === undefined ? 'inherit' : stdioFor(command.streams),
        ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
        // Away from a terminal the process leads a group of its own, so that all it starts can be ended with it.
        detached: !command.terminal,
      });
      await once(child, 'spawn');
      return new LocalProcess(child, command);
    } catch (error) {
      throw new CommandNotStartedError(command.file, error as NodeJS.ErrnoException);
    }
  }

  /** Sends a signal to the process, and to all it started where it leads a group. Whoever has ended misses it. */
  send(signal: NodeJS.Signals): void {
    this.#isReached(signal);
  }

  /** Waits for the end, bringing it about when the command's signal is aborted. */
  async ended(): Promise<ProcessEnd> {
    const { signal } = this.#command;
    const exited = this.#exit();
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([exited, aborted]);
    if (signal.aborted) await this.#bringToAnEnd();
    return exited;
  }

  /** SIGTERM, and SIGKILL for what is left after `killAfterMs`. */
  async #bringToAnEnd(): Promise<void> {
    const deadline = performance.now() + this.#command.killAfterMs;
    this.send('SIGTERM');
    while (this.#isReached(0)) {
      if (performance.now() >= deadline) return this.send('SIGKILL');
      await sleep(LOOK_AGAIN_MS);
    }
  }

  /** Whether anyone is left to be sent the signal. */
  #isReached(signal: NodeJS.Signals | 0): boolean {
    const { pid } = this.#child;
    if (pid === undefined || (this.#command.terminal && this.#hasExited())) return false;
    try {
      return process.kill(this.#command.terminal ? pid : -pid, signal);
    } catch (error) {
      // Nobody: ESRCH; on macOS a group of which only the zombie is left gives EPERM.
      if (['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
      throw error;
    }
  }

  #hasExited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async #exit(): Promise<ProcessEnd> {
    if (this.#streams !== undefined) await this.#streams.ended;
    else if (!this.#hasExited()) await once(this.#child, 'exit');
    return { code: this.#child.exitCode, signal: this.#child.signalCode };
  }
}

/** The streams of this process are shared, so that a terminal stays one for the command. */
function stdioFor({ stdin, stdout, stderr }: NonNullable<LocalCommand['streams']>): StdioOptions {
  return [
    stdin === undefined ? 'ignore' : stdin === process.stdin ? 'inherit' : 'pipe',
    stdout === process.stdout ? 'inherit' : 'pipe',
    stderr === process.stderr ? 'inherit' : 'pipe',
  ];
}

function carryStreams(
  child: ChildProcess,
  streams: NonNullable<LocalCommand['streams']>,
  onReaderGone: () => void,
): CommandStreams {
  return new CommandStreams(child, streams, {
    // The system would send SIGPIPE for a pipe; what Node calls one is a socket.
    onReaderGone,
    letGo: () => {
      child.stdout?.destroy();
      child.stderr?.destroy();
    },
  });
}

/** Between two looks at whether a process has ended. */
const LOOK_AGAIN_MS = 20;

/** The exit code that shells give for a process: its own, or 128 and the number of the signal that ended it. */
export function exitCodeOf({ code, signal }: ProcessEnd): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}
