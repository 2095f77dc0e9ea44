import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';

/** A command to run on this machine. */
export interface LocalCommand {
  file: string;
  args: readonly string[];
  /** The whole environment of the process. */
  env: NodeJS.ProcessEnv;
  /** Whether a terminal is attached, which then delivers its signals to the process by itself. */
  terminal: boolean;
  /** When aborted, the process is ended: SIGTERM, and SIGKILL after `killAfterMs`. */
  signal: AbortSignal;
  killAfterMs: number;
}

/** How a process ended: exactly one of the two is null. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A command that could not be started. */
export class CommandNotStartedError extends Error {
  override readonly name = 'CommandNotStartedError';
  /** The exit code that shells give for it: 127 for a command that is not there, 126 for one that cannot be run. */
  readonly exitCode: 126 | 127;

  constructor(file: string, cause: NodeJS.ErrnoException) {
    super(`${file} cannot be started: ${cause.code === 'ENOENT' ? 'there is no such command' : cause.message}`, {
      cause,
    });
    this.exitCode = cause.code === 'ENOENT' ? 127 : 126;
  }
}

/** A running process, whose standard streams are those of this one. */
export class LocalProcess {
  readonly #child: ChildProcess;
  readonly #command: LocalCommand;
  #killTimer: NodeJS.Timeout | undefined;

  private constructor(child: ChildProcess, command: LocalCommand) {
    this.#child = child;
    this.#command = command;
  }

  /** @throws {CommandNotStartedError} */
  static async start(command: LocalCommand): Promise<LocalProcess> {
    const child = spawn(command.file, command.args, {
      env: command.env,
      stdio: 'inherit',
      // Away from a terminal the process leads a group of its own, so that all it starts can be ended with it.
      detached: !command.terminal,
    });
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw new CommandNotStartedError(command.file, error as NodeJS.ErrnoException);
    }
    return new LocalProcess(child, command);
  }

  /** Sends a signal to the process, and to all it started where it leads a group. */
  send(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    try {
      process.kill(this.#command.terminal ? pid : -pid, signal);
    } catch (error) {
      // It ended on its own a moment ago.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /** Waits for the end, bringing it about when the command's signal is aborted. */
  async ended(): Promise<ProcessEnd> {
    const { signal, killAfterMs } = this.#command;
    const end = () => {
      this.send('SIGTERM');
      this.#killTimer = setTimeout(() => this.send('SIGKILL'), killAfterMs);
    };
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
    try {
      return await this.#exit();
    } finally {
      signal.removeEventListener('abort', end);
      clearTimeout(this.#killTimer);
    }
  }

  async #exit(): Promise<ProcessEnd> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return { code: exitCode, signal: signalCode };
    const [code, signal] = (await once(this.#child, 'exit')) as [number | null, NodeJS.Signals | null];
    return { code, signal };
  }
}

/** The exit code that shells give for a process: its own, or 128 and the number of the signal that ended it. */
export function exitCodeOf({ code, signal }: ProcessEnd): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}
