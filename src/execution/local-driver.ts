import type { Command, Execution, ExecutionDriver, PrepareReport, ProcessEnd, RestoreReport } from './driver.ts';
import { checkCommand } from './invalid-command.ts';
import { LocalProcess } from './local-process.ts';
import { realWorkspaceDirectory } from './workspace-directory.ts';

/** What executing on this machine needs. */
export interface LocalExecutionDriverOptions {
  /** Variables that every command is given. */
  env: Readonly<Record<string, string | undefined>>;
}

/** Executes on this machine: the execution half of the driver `local`. Nothing is brought anywhere. */
export function createLocalExecutionDriver({ env }: LocalExecutionDriverOptions): ExecutionDriver {
  return {
    name: 'local',
    async open(_lease, { workspaceDirectory, signal }) {
      const path = workspaceDirectory === undefined ? process.cwd() : await realWorkspaceDirectory(workspaceDirectory);
      return new LocalExecution(path, env, signal);
    },
  };
}

/** Signals that a terminal sends to every process it runs, commands included. */
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

  async execute(command: Command): Promise<ProcessEnd> {
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
      return await started.ended();
    } finally {
      this.#running.delete(running);
    }
  }

  async send(signal: NodeJS.Signals): Promise<void> {
    for (const { process: starting, hasStarted, terminal } of this.#running) {
      if (hasStarted && terminal && TERMINAL_SIGNALS.includes(signal)) continue;
      // One that does not start tells so by itself.
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
