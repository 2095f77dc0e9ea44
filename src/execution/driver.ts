import type { Readable, Writable } from 'node:stream';
import type { EnvironmentDriver, GrantedLease } from '../contracts/index.ts';

/**
 * The execution half of a driver: it runs beside a run's own process and its local workspace. Its counterpart, which
 * acquires and releases, is the `ControlDriver` of `src/environments/drivers`.
 */
export interface ExecutionDriver {
  readonly name: EnvironmentDriver;
  /**
   * Opens the place that a lease gives its run.
   * @throws {EnvironmentFailedError}
   */
  open(lease: GrantedLease, options: ExecutionOptions): Promise<Execution>;
}

/** What an execution is opened with. */
export interface ExecutionOptions {
  /** The run's workspace on this machine; undefined for a run without one. */
  workspaceDirectory?: string | undefined;
  /** Aborted when the work must stop: the lease is lost, or the run cancelled or timed out. */
  signal: AbortSignal;
  /** Told now and then how far a transfer is. */
  onProgress?: (progress: TransferProgress) => void;
}

/** How far a transfer of files is. */
export interface TransferProgress {
  direction: 'upload' | 'download';
  files: number;
  totalFiles: number;
  bytes: number;
  totalBytes: number;
}

/** A place in which a run executes commands. */
export interface Execution {
  /** The working directory of commands, as the environment names it. */
  readonly workspacePath: string;
  /** Where that is, for people: the host and the user as well. */
  readonly location: string;
  /**
   * Brings the local workspace to the environment, where that is needed. Repeating it is harmless.
   * @throws {EnvironmentFailedError}; or the reason of the execution's signal
   */
  prepareWorkspace(): Promise<PrepareReport>;
  /**
   * Runs a command to its end. The signal of the execution brings the end about: SIGTERM, then SIGKILL.
   * @throws {InvalidCommandError} when no process can be given what the command holds
   * @throws {EnvironmentFailedError} when how the command ended cannot be known; it may run on then
   */
  execute(command: Command): Promise<ProcessEnd>;
  /**
   * Sends a signal to the command that is executed, and to all it started. Whoever has ended misses it.
   * @throws {EnvironmentFailedError} when it could not be sent
   */
  send(signal: NodeJS.Signals): Promise<void>;
  /**
   * Brings back what changed on the environment since the workspace was brought to it. The signal of the execution does
   * not end it, so that a run which was cancelled or timed out can bring back what it did; its own signal does.
   * @throws {EnvironmentFailedError}; or the reason of the signal
   */
  restoreWorkspace(options?: { signal?: AbortSignal }): Promise<RestoreReport>;
  close(): Promise<void>;
}

/** A command to execute in an environment. */
export interface Command {
  /** The command and its arguments, delivered exactly as they are. */
  argv: readonly [string, ...string[]];
  /** Variables for the command, besides those that the environment gives to everyone. */
  env: Readonly<Record<string, string>>;
  /** Left out: nothing. */
  stdin?: Readable | undefined;
  stdout: Writable;
  stderr: Writable;
  /** From SIGTERM to SIGKILL, in milliseconds. */
  killAfterMs: number;
}

/** How a process ended: exactly one of the two is null. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** What became of each file that differs: paths relative to the workspace. */
export interface RestoreReport {
  changed: string[];
  created: string[];
  deleted: string[];
  /** Changed on both sides: the local file is untouched, and what the environment has is kept beside it. */
  conflicts: RestoreConflict[];
  /** Left on the environment, with the reason. */
  skipped: SkippedPath[];
}

/** What did not cross, and why. */
export interface SkippedPath {
  path: string;
  reason: string;
}

/** What became of the workspace when it was brought to the environment. */
export interface PrepareReport {
  /** Files that are there now, and their bytes: whether they had to be sent or were there from an earlier run. */
  files: number;
  bytes: number;
  /** Left on this machine, with the reason. What .gitignore leaves out is not told of. */
  skipped: SkippedPath[];
}

/** A file that changed on both sides. */
export interface RestoreConflict {
  path: string;
  /** Where the environment's version was put, relative to the workspace; null where it had deleted the file. */
  keptAs: string | null;
}
