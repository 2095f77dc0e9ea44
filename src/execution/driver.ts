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
  /** Aborted when the work must stop: the lease is lost, or the run cancelled. */
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
  /** Brings the local workspace to the environment, where that is needed. Repeating it is harmless. */
  prepareWorkspace(): Promise<void>;
  /** Runs a command to its end. The signal of the execution brings the end about: SIGTERM, then SIGKILL. */
  execute(command: Command): Promise<ProcessEnd>;
  /** Brings back what changed on the environment. */
  restoreWorkspace(): Promise<RestoreReport>;
  close(): Promise<void>;
}

/** A command to execute in an environment. */
export interface Command {
  /** The command and its arguments, delivered exactly as they are. */
  argv: readonly [string, ...string[]];
  /** Variables for the command, besides those that the environment gives to everyone. */
  env: Readonly<Record<string, string>>;
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
  skipped: { path: string; reason: string }[];
}

/** A file that changed on both sides. */
export interface RestoreConflict {
  path: string;
  /** Where the environment's version was put, relative to the workspace; null where it had deleted the file. */
  keptAs: string | null;
}
