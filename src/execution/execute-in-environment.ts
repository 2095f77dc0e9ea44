import { EnvironmentFailedError, LeaseLostError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import type { Command, Execution, PrepareReport, ProcessEnd, RestoreReport } from './driver.ts';
import { leaseVariables } from './lease-variables.ts';
import { openExecution } from './open-execution.ts';
import type { OpenExecutionOptions } from './open-execution.ts';

/** What is done now. */
export type ExecutionPhase = 'preparing' | 'executing' | 'restoring';

/** A command, and the workspace it works on. */
export interface ExecuteOptions extends OpenExecutionOptions {
  /** The command and its arguments. */
  command: Command['argv'];
  /** Variables for the command, besides those that tell it of its lease. */
  env?: Command['env'];
  /** Default nothing. */
  stdin?: Command['stdin'];
  /** Default that of this process. */
  stdout?: Command['stdout'];
  /** Default that of this process. */
  stderr?: Command['stderr'];
  /** From SIGTERM to SIGKILL, in milliseconds, once the signal is aborted. Default 10 seconds. */
  killAfterMs?: number;
  /** Ends bringing back what changed, which `signal` only does when the lease is lost. */
  restoreSignal?: AbortSignal;
  /** Told of each phase before it begins, and by what signals can be sent to the command. */
  onPhase?: (phase: ExecutionPhase, execution: Execution) => void;
  /** Told what was brought to the environment, and what was not, before the command is executed. */
  onPrepared?: (report: PrepareReport) => void;
}

/** What came of it. */
export interface ExecutionResult {
  end: ProcessEnd;
  prepared: PrepareReport;
  /** Null when the lease was lost: what is there then may be another run's. */
  restored: RestoreReport | null;
}

const KILL_AFTER_MS = 10_000;

/** The command came to its end, and what it changed could not be brought back. The message says where it still is. */
export class RestoreFailedError extends EnvironmentFailedError {
  readonly end: ProcessEnd;

  constructor(end: ProcessEnd, location: string, cause: unknown) {
    const ended = end.signal === null ? `exited with code ${end.code}` : `was ended by ${end.signal}`;
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(
      cause instanceof EnvironmentFailedError ? cause.code : 'driver_failed',
      `the command ${ended}, but what it changed could not all be brought back: ${reason}; ` +
        `it is in ${location} until the lease is released`,
      { cause },
    );
    this.end = end;
  }
}

/**
 * Executes a command where a lease says: brings the workspace there, executes, and brings back what changed, also when
 * the command failed, was cancelled or timed out. To be given to `withLease`, whose signal it takes.
 *
 * @throws {EnvironmentFailedError} when the environment failed, or how the command ended cannot be known
 * @throws {RestoreFailedError} when the command came to its end, but not all that it changed could be brought back
 * @throws {CommandNotStartedError} on `local`; elsewhere a command that cannot be started exits with 126 or 127
 * @throws the reason of the signal, when it was aborted before the command was started
 */
export async function executeInEnvironment(lease: GrantedLease, options: ExecuteOptions): Promise<ExecutionResult> {
  const { command, env, stdin, stdout, stderr, killAfterMs, onPhase, onPrepared } = options;
  const execution = await openExecution(lease, options);
  try {
    onPhase?.('preparing', execution);
    const prepared = await execution.prepareWorkspace();
    onPrepared?.(prepared);
    onPhase?.('executing', execution);
    const end = await execution.execute({
      argv: command,
      env: { ...env, ...leaseVariables(lease, execution.workspacePath) },
      stdin,
      stdout: stdout ?? process.stdout,
      stderr: stderr ?? process.stderr,
      killAfterMs: killAfterMs ?? KILL_AFTER_MS,
    });
    if (isLeaseLost(options.signal)) return { end, prepared, restored: null };
    onPhase?.('restoring', execution);
    return { end, prepared, restored: await restore(execution, end, options) };
  } finally {
    await execution.close();
  }
}

async function restore(
  execution: Execution,
  end: ProcessEnd,
  { signal, restoreSignal }: ExecuteOptions,
): Promise<RestoreReport> {
  const leaseLost = new AbortController();
  const onAbort = () => {
    if (isLeaseLost(signal)) leaseLost.abort(signal.reason);
  };
  signal.addEventListener('abort', onAbort);
  try {
    const signals = [leaseLost.signal, ...(restoreSignal ? [restoreSignal] : [])];
    return await execution.restoreWorkspace({ signal: AbortSignal.any(signals) });
  } catch (error) {
    throw new RestoreFailedError(end, execution.location, error);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function isLeaseLost(signal: AbortSignal): boolean {
  return signal.reason instanceof LeaseLostError;
}
