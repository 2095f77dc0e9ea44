import type { Readable, Writable } from 'node:stream';
import { LessorError } from '../contracts/index.ts';
import type { EnvironmentDriver, GrantedLease } from '../contracts/index.ts';

/**
 * The execution half of a driver: it runs beside a run's own process and its local workspace. Its counterpart, which
 * acquires and releases, is the `ControlDriver` of `src/environments/drivers`.
 */
export interface ExecutionDriver {
  readonly name: EnvironmentDriver;
  /**
   * Opens an execution on the environment of a lease.
   * @throws {EnvironmentFailedError}
   */
  open(lease: GrantedLease, options: ExecutionOptions): Promise<Execution>;
}

/** Options of an execution. */
export interface ExecutionOptions {
  /** The run's local workspace; undefined for a run without one. */
  workspaceDirectory?: string | undefined;
  /** Aborted when the work must stop: the lease is lost, or the run is cancelled or timed out. */
  signal: AbortSignal;
  /** Called at intervals during a transfer. */
  onProgress?: (progress: TransferProgress) => void;
}

/** Progress of a file transfer. */
export interface TransferProgress {
  direction: 'upload' | 'download';
  files: number;
  totalFiles: number;
  bytes: number;
  totalBytes: number;
}

/** Executes the commands of a run on its environment. */
export interface Execution {
  /** The working directory of commands, as the environment names it. */
  readonly workspacePath: string;
  /** The same for people: with the user and the host. */
  readonly location: string;
  /**
   * Uploads the local workspace to the environment, where that is needed. Repeating it is harmless.
   * @throws {EnvironmentFailedError}; or the reason of the execution's signal
   */
  prepareWorkspace(): Promise<PrepareReport>;
  /**
   * Runs a command to its end. An abort of the execution's signal terminates it: SIGTERM, then SIGKILL.
   * @throws {InvalidCommandError} when no process can be given what the command holds
   * @throws {EnvironmentFailedError} when how the command ended cannot be known; it may run on then
   */
  execute(command: Command): Promise<ProcessExit>;
  /**
   * Sends a signal to the running commands and to everything they started. Ignored by those that have ended.
   * @throws {EnvironmentFailedError} when it could not be sent
   */
  send(signal: NodeJS.Signals): Promise<void>;
  /**
   * Downloads what changed on the environment since the upload. Not ended by the execution's signal, so that a run that
   * was cancelled or timed out keeps its work, but by its own.
   * @throws {EnvironmentFailedError}; or the reason of the signal
   */
  restoreWorkspace(options?: { signal?: AbortSignal }): Promise<RestoreReport>;
  close(): Promise<void>;
}

/** A command to execute on an environment. */
export interface Command {
  /** The command and its arguments, delivered unchanged. */
  argv: readonly [string, ...string[]];
  /** Variables of the command, in addition to those of the environment. */
  env: Readonly<Record<string, string>>;
  /** Default none. */
  stdin?: Readable | undefined;
  stdout: Writable;
  stderr: Writable;
  /** From SIGTERM to SIGKILL, in milliseconds. */
  killAfterMs: number;
}

/** How a process ended: exactly one of the two is null. */
export interface ProcessExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** The result of an upload. */
export interface PrepareReport {
  /** Files on the environment and their bytes, including those that were there from an earlier run. */
  files: number;
  bytes: number;
  /** Not uploaded, with the reason. Paths that .gitignore excludes are not listed. */
  skipped: SkippedPath[];
}

/** The result of a download, by paths relative to the workspace. */
export interface RestoreReport {
  changed: string[];
  created: string[];
  deleted: string[];
  /** Changed on both sides: the local file is unchanged, and a copy of the environment's version is kept beside it. */
  conflicts: RestoreConflict[];
  /** Not downloaded, with the reason. */
  skipped: SkippedPath[];
}

/** A path that was not synced, and why. */
export interface SkippedPath {
  path: string;
  reason: string;
}

/** A file that changed on both sides. */
export interface RestoreConflict {
  path: string;
  /** Path of the copy of the environment's version, relative to the workspace; null where it deleted the file. */
  keptAs: string | null;
}

/** A command holds text that no process can be given. The message names the argument or variable, never a value. */
export class InvalidCommandError extends LessorError {
  constructor(message: string) {
    super('invalid_configuration', message);
  }
}

/** Variable names of POSIX. A shell cannot set others. */
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Rejects a command that could not be delivered unchanged.
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
