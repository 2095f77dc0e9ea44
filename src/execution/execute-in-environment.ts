import { EnvironmentFailedError, LeaseLostError, LessorError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import { messageOf } from '../lib/errors.ts';
import { createSecretResolver } from '../secrets/resolver.ts';
import type {
  Command,
  Execution,
  ExecutionDriver,
  ExecutionOptions,
  PrepareReport,
  ProcessExit,
  RestoreReport,
} from './driver.ts';
import { createLocalExecutionDriver } from './local-driver.ts';
import { createSshExecutionDriver } from './ssh/ssh-driver.ts';

/** The phase of an execution. */
export type ExecutionPhase = 'preparing' | 'executing' | 'restoring';

/** Options of an execution, and the drivers to choose from. */
export interface OpenExecutionOptions extends ExecutionOptions {
  /** Default {@link executionDrivers} with the variables of this process. */
  drivers?: readonly ExecutionDriver[] | undefined;
}

/** A command and its workspace. */
export interface ExecuteOptions extends OpenExecutionOptions {
  /** The command and its arguments. */
  command: Command['argv'];
  /** Variables of the command, in addition to those that describe its lease. */
  env?: Command['env'];
  /** Default none. */
  stdin?: Command['stdin'];
  /** Default that of this process. */
  stdout?: Command['stdout'];
  /** Default that of this process. */
  stderr?: Command['stderr'];
  /** From SIGTERM to SIGKILL after an abort of the signal, in milliseconds. Default 10 seconds. */
  killAfterMs?: number;
  /** Aborts the download, which `signal` does only when the lease is lost. */
  restoreSignal?: AbortSignal;
  /** Called before each phase; the execution can send signals to the command. */
  onPhase?: (phase: ExecutionPhase, execution: Execution) => void;
  /** Called with the result of the upload, before the command is executed. */
  onPrepared?: (report: PrepareReport) => void;
}

/** The result of an execution. */
export interface ExecutionResult {
  exit: ProcessExit;
  prepared: PrepareReport;
  /** Null when the lease was lost: the environment's files may be another run's by then. */
  restored: RestoreReport | null;
}

const KILL_AFTER_MS = 10_000;

/** The command ended, but its changes could not all be downloaded. The message says where they still are. */
export class RestoreFailedError extends EnvironmentFailedError {
  readonly exit: ProcessExit;

  constructor(exit: ProcessExit, location: string, cause: unknown) {
    const ended = exit.signal === null ? `exited with code ${exit.code}` : `was ended by ${exit.signal}`;
    super(
      cause instanceof EnvironmentFailedError ? cause.code : 'driver_failed',
      `the command ${ended}, but what it changed could not all be downloaded: ${messageOf(cause)}; ` +
        `it is in ${location} until the lease is released`,
      { cause },
    );
    this.exit = exit;
  }
}

/** No driver is configured for the environment of a lease. */
export class UnknownExecutionDriverError extends LessorError {
  constructor({ id, environment }: GrantedLease, drivers: readonly ExecutionDriver[]) {
    super(
      'driver_unavailable',
      `lease ${id} is on an environment of the driver ${environment.driver}, and commands can be executed here on ` +
        `${drivers.map(({ name }) => name).join(' and ') || 'none'} only`,
    );
  }
}

/**
 * The execution drivers that come with Lessor: `local` and `ssh`.
 * @param env the variables of commands on `local`, and the source of secrets: variables that environments refer to, and
 * `LESSOR_SECRET_KEY`, which no command gets since it decrypts the sealed secrets of every company
 * @throws {InvalidConfigurationError} when LESSOR_SECRET_KEY is no key
 */
export function executionDrivers(env: Readonly<Record<string, string | undefined>>): ExecutionDriver[] {
  const { LESSOR_SECRET_KEY: secretKey, ...commandEnv } = env;
  const secrets = createSecretResolver({ env, secretKey });
  return [createLocalExecutionDriver({ env: commandEnv }), createSshExecutionDriver({ secrets })];
}

/**
 * Opens an execution on the environment of a lease.
 * @throws {UnknownExecutionDriverError}
 * @throws {EnvironmentFailedError} when the environment cannot be reached or rejects the login
 */
export async function openExecution(lease: GrantedLease, options: OpenExecutionOptions): Promise<Execution> {
  const { drivers = executionDrivers(process.env), ...executionOptions } = options;
  const driver = drivers.find(({ name }) => name === lease.environment.driver);
  if (driver === undefined) throw new UnknownExecutionDriverError(lease, drivers);
  return driver.open(lease, executionOptions);
}

/**
 * Executes a command on the environment of a lease: uploads the workspace, executes, and downloads what changed, also when
 * the command failed, was cancelled or timed out. For use in `withLease`, whose signal it takes.
 *
 * @throws {UnknownExecutionDriverError} when no driver is configured for the environment
 * @throws {EnvironmentFailedError} when the environment failed, or how the command ended cannot be known
 * @throws {RestoreFailedError} when the command ended, but not all of its changes could be downloaded
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
    const exit = await execution.execute({
      argv: command,
      env: { ...env, ...leaseVariables(lease, execution.workspacePath) },
      stdin,
      stdout: stdout ?? process.stdout,
      stderr: stderr ?? process.stderr,
      killAfterMs: killAfterMs ?? KILL_AFTER_MS,
    });
    if (isLeaseLost(options.signal)) return { exit, prepared, restored: null };
    onPhase?.('restoring', execution);
    return { exit, prepared, restored: await restore(execution, exit, options) };
  } finally {
    await execution.close();
  }
}

/** The variables that describe a lease to its command: `PAPERCLIP_ENVIRONMENT` is the environment, as JSON. */
function leaseVariables(lease: GrantedLease, workspacePath: string): Record<string, string> {
  return {
    LESSOR_RUN_ID: lease.runId,
    LESSOR_LEASE_ID: lease.id,
    LESSOR_FENCING_TOKEN: String(lease.fencingToken),
    PAPERCLIP_ENVIRONMENT: JSON.stringify({ ...lease.environment, workspacePath }),
  };
}

async function restore(
  execution: Execution,
  exit: ProcessExit,
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
    throw new RestoreFailedError(exit, execution.location, error);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function isLeaseLost(signal: AbortSignal): boolean {
  return signal.reason instanceof LeaseLostError;
}
