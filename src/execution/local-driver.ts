import { spawn } from 'node:child_process';
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../lib/errors.ts';
import { CommandStreams } from './command-streams.ts';
import { checkCommand } from './driver.ts';
import type { Command, Execution, ExecutionDriver, PrepareReport, ProcessExit, RestoreReport } from './driver.ts';
import { resolveWorkspaceDirectory } from './workspace/local-tree.ts';

/** Options of the local execution driver. */
export interface LocalExecutionDriverOptions {
  /** Variables that every command gets. */
  env: Readonly<Record<string, string | undefined>>;
}

/** Executes commands on this machine: the execution half of the driver `local`. Nothing is uploaded or downloaded. */
export function createLocalExecutionDriver({ env }: LocalExecutionDriverOptions): ExecutionDriver {
  return {
    name: 'local',
    async open(_lease, { workspaceDirectory, signal }) {
      const path =
        workspaceDirectory === undefined ? process.cwd() : await resolveWorkspaceDirectory(workspaceDirectory);
      return new LocalExecution(path, env, signal);
    },
  };
}

/** Signals that a terminal sends to all of its processes, commands included. */
const TERMINAL_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT', 'SIGHUP'];

interface Running {
  process: Promise<LocalProcess>;
  hasStarted: boolean;
  terminal: boolean;
}

class LocalExecution implements Execution {
  readonly workspacePath: string;
  readonly location: string;
  readonly #env: LocalExecutionDriverOptions['env'];
  readonly #signal: AbortSignal;
  readonly #running = new Set<Running>();

  constructor(workspacePath: string, env: LocalExecutionDriverOptions['env'], signal: AbortSignal) {
    this.workspacePath = workspacePath;
    this.location = workspacePath;
    this.#env = env;
    this.#signal = signal;
  }

  async prepareWorkspace(): Promise<PrepareReport> {
    return { files: 0, bytes: 0, skipped: [] };
  }

  async execute(command: Command): Promise<ProcessExit> {
    this.#signal.throwIfAborted();
    checkCommand(command);
    const [file, ...args] = command.argv;
    const terminal = command.stdin === process.stdin && process.stdin.isTTY;
    const running: Running = {
      hasStarted: false,
      terminal,
      process: LocalProcess.start({
        file,
        args,
        env: { ...this.#env, ...command.env },
        cwd: this.workspacePath,
        streams: command,
        terminal,
        signal: this.#signal,
        killAfterMs: command.killAfterMs,
      }),
    };
    this.#running.add(running);
    try {
      const started = await running.process;
      running.hasStarted = true;
      return await started.exited();
    } finally {
      this.#running.delete(running);
    }
  }

  async send(signal: NodeJS.Signals): Promise<void> {
    for (const { process: starting, hasStarted, terminal } of this.#running) {
      if (hasStarted && terminal && TERMINAL_SIGNALS.includes(signal)) continue;
      // execute() rejects for a command that does not start.
      const started = await starting.catch(() => undefined);
      started?.send(signal);
    }
  }

  async restoreWorkspace(): Promise<RestoreReport> {
    return { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

/** A command to run as a local process. */
export interface LocalCommand {
  file: string;
  args: readonly string[];
  /** The whole environment of the process. */
  env: NodeJS.ProcessEnv;
  /** Default that of this process. */
  cwd?: string | undefined;
  /** Default those of this process. */
  streams?: Pick<Command, 'stdin' | 'stdout' | 'stderr'> | undefined;
  /** Whether a terminal is attached, which delivers its signals to the process itself. */
  terminal: boolean;
  /** An abort terminates the process: SIGTERM, and SIGKILL after `killAfterMs`. */
  signal: AbortSignal;
  killAfterMs: number;
}

/** A command that could not be started. */
export class CommandNotStartedError extends Error {
  override readonly name = 'CommandNotStartedError';
  /** The exit code that shells use for it: 127 for a missing command, 126 for one that cannot be run. */
  readonly exitCode: 126 | 127;

  constructor(file: string, cause: NodeJS.ErrnoException) {
    const isMissing = cause.code === 'ENOENT' || file === '';
    super(`${file || "''"} cannot be started: ${isMissing ? 'there is no such command' : cause.message}`, { cause });
    this.exitCode = isMissing ? 127 : 126;
  }
}

const POLL_INTERVAL_MS = 20;

/** A running local process. */
export class LocalProcess {
  readonly #child: ChildProcess;
  readonly #command: LocalCommand;
  readonly #streams: CommandStreams | undefined;

  private constructor(child: ChildProcess, command: LocalCommand) {
    this.#child = child;
    this.#command = command;
    this.#streams = command.streams && pipeStreams(child, command.streams, () => this.send('SIGPIPE'));
  }

  /** @throws {CommandNotStartedError} */
  static async start(command: LocalCommand): Promise<LocalProcess> {
    try {
      const child = spawn(command.file, command.args, {
        env: command.env,
        stdio: command.streams === undefined ? 'inherit' : stdioFor(command.streams),
        ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
        // Without a terminal the process leads its own group, so that everything it starts can be ended with it.
        detached: !command.terminal,
      });
      await once(child, 'spawn');
      return new LocalProcess(child, command);
    } catch (error) {
      throw new CommandNotStartedError(command.file, error as NodeJS.ErrnoException);
    }
  }

  /** Sends a signal to the process, and to its group where it leads one. Ignored by those that have ended. */
  send(signal: NodeJS.Signals): void {
    this.#signal(signal);
  }

  /** Waits for the exit, and terminates the process when the command's signal is aborted. */
  async exited(): Promise<ProcessExit> {
    const { signal } = this.#command;
    const exit = this.#exit();
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await Promise.race([exit, aborted]);
    if (signal.aborted) await this.#terminate();
    return exit;
  }

  /** SIGTERM, and SIGKILL for what is left after `killAfterMs`. */
  async #terminate(): Promise<void> {
    const deadline = performance.now() + this.#command.killAfterMs;
    this.send('SIGTERM');
    while (this.#signal(0)) {
      if (performance.now() >= deadline) return this.send('SIGKILL');
      await sleep(POLL_INTERVAL_MS);
    }
  }

  /** Returns whether any process received the signal. */
  #signal(signal: NodeJS.Signals | 0): boolean {
    const { pid } = this.#child;
    if (pid === undefined || (this.#command.terminal && this.#hasExited())) return false;
    try {
      return process.kill(this.#command.terminal ? pid : -pid, signal);
    } catch (error) {
      // No process: ESRCH; on macOS a group of zombies alone gives EPERM.
      if (hasCode(error, 'ESRCH', 'EPERM')) return false;
      throw error;
    }
  }

  #hasExited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async #exit(): Promise<ProcessExit> {
    if (this.#streams !== undefined) await this.#streams.exited;
    else if (!this.#hasExited()) await once(this.#child, 'exit');
    return { code: this.#child.exitCode, signal: this.#child.signalCode };
  }
}

/** Shares the streams of this process, so that the command has a terminal where this process has one. */
function stdioFor({ stdin, stdout, stderr }: NonNullable<LocalCommand['streams']>): StdioOptions {
  return [
    stdin === undefined ? 'ignore' : stdin === process.stdin ? 'inherit' : 'pipe',
    stdout === process.stdout ? 'inherit' : 'pipe',
    stderr === process.stderr ? 'inherit' : 'pipe',
  ];
}

function pipeStreams(
  child: ChildProcess,
  streams: NonNullable<LocalCommand['streams']>,
  onReaderClosed: () => void,
): CommandStreams {
  return new CommandStreams(child, streams, {
    // The system sends SIGPIPE for a pipe only, and Node's 'pipe' is a socket.
    onReaderClosed,
    detach: () => {
      child.stdout?.destroy();
      child.stderr?.destroy();
    },
  });
}

/** The exit code that shells report for a process: its own, or 128 and the number of the signal that ended it. */
export function exitCodeOf({ code, signal }: ProcessExit): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}
