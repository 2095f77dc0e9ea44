import { constants } from 'node:os';
import { LessorError, QueueUnreachableError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import type {
  Execution,
  ExecutionDriver,
  PrepareReport,
  ProcessExit,
  RestoreReport,
  TransferProgress,
} from '../execution/driver.ts';
import { executeInEnvironment } from '../execution/execute-in-environment.ts';
import type { ExecutionPhase } from '../execution/execute-in-environment.ts';
import { exitCodeOf } from '../execution/local-driver.ts';
import type { HeartbeatProducer, RunStart } from '../producers/producer.ts';
import { RunTimedOutError, withLease } from '../producers/with-lease.ts';
import type { RunOutcome } from '../producers/with-lease.ts';

/** A command, and the run that it is executed for. */
export interface CommandRunOptions {
  command: readonly [string, ...string[]];
  /** Variables for the command besides those that describe its lease. */
  env: Readonly<Record<string, string>>;
  workspaceDirectory: string | undefined;
  drivers: readonly ExecutionDriver[];
  run: RunStart;
  leaseWaitMs: number;
  timeoutMs: number | undefined;
  killAfterMs: number;
  observer: CommandRunObserver;
}

/** Receives the progress of a run. */
export interface CommandRunObserver {
  onLease(lease: GrantedLease): void;
  onPhase(phase: ExecutionPhase): void;
  onProgress(progress: TransferProgress): void;
  onPrepared(report: PrepareReport): void;
  onRestored(report: RestoreReport): void;
  /** A first signal arrived while changed files are downloaded: the next one aborts the download. */
  onRestoreInterrupted(): void;
  /** A signal that this process had not received ended the command. */
  onKilled(ended: string): void;
  /** A signal could not be forwarded to the command. */
  onUnsentSignal(error: unknown): void;
}

/**
 * A signal that had no effect for so long is not waited for when another one arrives. Sooner ones are repetitions: a
 * terminal sends Ctrl-C to this process and to a parent that forwards it, as npm does.
 */
const REPEATED_SIGNAL_MS = 1_000;

/** Signals that are forwarded to the command. */
const FORWARDED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/**
 * Signals by which somebody asks a command to end; SIGPIPE comes from whoever closed its output. Any other that ends it
 * was not asked for: SIGKILL is also what the kernel sends when memory is short.
 */
const REQUEST_SIGNALS: readonly NodeJS.Signals[] = [...FORWARDED_SIGNALS, 'SIGPIPE'];

/** Signals that the kernel sends a process for its own fault. */
const CRASH_SIGNALS: readonly NodeJS.Signals[] = [
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGILL',
  'SIGSEGV',
  'SIGSYS',
  'SIGTRAP',
];

/** The abort reason of a run whose command has not started, and of an interrupted download. */
class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

/** The command ended, but that could not be published: the lease stays until it expires. */
class EndNotPublishedError extends LessorError {
  constructor(end: ProcessExit, cause: QueueUnreachableError) {
    const ended = end.signal === null ? `exited with code ${end.code}` : `was ended by ${end.signal}`;
    super('queue_unreachable', `the command ${ended}, but that could not be published: ${cause.message}`, { cause });
  }
}

/**
 * One execution of a command under a lease. A signal cancels the run before the command starts, is forwarded while it
 * executes, and after it has ended only counts: the second one aborts the download of changed files. A further signal ends
 * this process while an earlier one has no effect.
 */
export class CommandRun {
  readonly #producer: HeartbeatProducer;
  readonly #options: CommandRunOptions;
  readonly #interruptedBeforeStart = new AbortController();
  readonly #interruptedRestore = new AbortController();
  #phase: 'waiting' | ExecutionPhase | 'ended' = 'waiting';
  #isRestoreInterrupted = false;
  #execution: Execution | undefined;
  #end: ProcessExit | undefined;
  #received: NodeJS.Signals | undefined;
  /** When the oldest signal was received that has had no effect yet, by the monotonic clock. */
  #pendingSince: number | undefined;
  #timedOut: RunTimedOutError | undefined;

  constructor(producer: HeartbeatProducer, options: CommandRunOptions) {
    this.#producer = producer;
    this.#options = options;
  }

  /**
   * Resolves with the exit code of this process, once the end of the run is published.
   * @throws {RunTimedOutError} when the command was ended because its time had passed
   */
  async execute(): Promise<number> {
    const { run, leaseWaitMs, timeoutMs } = this.#options;
    for (const signal of FORWARDED_SIGNALS) process.on(signal, this.#forward);
    try {
      const end = await withLease(this.#producer, run, (lease, signal) => this.#executeUnder(lease, signal), {
        leaseWaitMs,
        signal: this.#interruptedBeforeStart.signal,
        outcomeOf: (ended) => this.#outcomeOf(ended),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
      if (this.#timedOut !== undefined) throw this.#timedOut;
      return exitCodeOf(end);
    } catch (error) {
      if (error instanceof InterruptedError) return 128 + constants.signals[this.#received!];
      if (this.#end !== undefined && error instanceof QueueUnreachableError)
        throw new EndNotPublishedError(this.#end, error);
      throw error;
    } finally {
      for (const signal of FORWARDED_SIGNALS) process.off(signal, this.#forward);
    }
  }

  async #executeUnder(lease: GrantedLease, signal: AbortSignal): Promise<ProcessExit> {
    const { command, env, workspaceDirectory, drivers, killAfterMs, observer } = this.#options;
    observer.onLease(lease);
    try {
      const { exit, restored } = await executeInEnvironment(lease, {
        command,
        env,
        workspaceDirectory,
        drivers,
        stdin: process.stdin,
        signal,
        killAfterMs,
        restoreSignal: this.#interruptedRestore.signal,
        onPhase: this.#enter,
        onPrepared: (report) => observer.onPrepared(report),
        onProgress: (progress) => observer.onProgress(progress),
      });
      this.#end = exit;
      if (restored !== null) observer.onRestored(restored);
      if (signal.reason instanceof RunTimedOutError) this.#timedOut = signal.reason;
      else if (!signal.aborted && this.#received === undefined && exit.signal !== null)
        observer.onKilled(describeSignal(exit.signal));
      return exit;
    } finally {
      this.#phase = 'ended';
    }
  }

  readonly #enter = (phase: ExecutionPhase, execution: Execution): void => {
    this.#phase = phase;
    this.#pendingSince = undefined;
    this.#execution = execution;
    this.#options.observer.onPhase(phase);
  };

  readonly #forward = (signal: NodeJS.Signals): void => {
    switch (this.#phase) {
      case 'waiting':
      case 'preparing':
        if (this.#isOverdue()) return this.#forceQuit(signal);
        this.#received = signal;
        this.#pendingSince ??= performance.now();
        return this.#interruptedBeforeStart.abort(new InterruptedError(`${signal} was received`));
      case 'executing':
        if (this.#isOverdue()) return this.#forceQuit(signal);
        this.#received = signal;
        this.#pendingSince ??= performance.now();
        this.#execution!.send(signal)
          .catch((error: unknown) => this.#options.observer.onUnsentSignal(error))
          .finally(() => (this.#pendingSince = undefined));
        return;
      case 'restoring':
        if (this.#interruptedRestore.signal.aborted && this.#isOverdue()) return this.#forceQuit(signal);
        if (this.#isRestoreInterrupted) {
          this.#pendingSince ??= performance.now();
          return this.#interruptedRestore.abort(new InterruptedError(`${signal} was received twice`));
        }
        this.#isRestoreInterrupted = true;
        return this.#options.observer.onRestoreInterrupted();
      case 'ended':
        // Only publishing the end is left, which can take minutes while the queue is unreachable: force quit.
        return this.#forceQuit(signal);
    }
  };

  #isOverdue(): boolean {
    return this.#pendingSince !== undefined && performance.now() - this.#pendingSince > REPEATED_SIGNAL_MS;
  }

  #forceQuit(signal: NodeJS.Signals): never {
    process.exit(exitCodeOf(this.#end ?? { code: null, signal }));
  }

  #outcomeOf(end: ProcessExit): RunOutcome {
    if (this.#received !== undefined) return { status: 'cancelled' };
    if (end.signal !== null) {
      if (REQUEST_SIGNALS.includes(end.signal)) return { status: 'cancelled' };
      return { status: 'failed', failureReason: describeSignal(end.signal) };
    }
    return end.code === 0
      ? { status: 'succeeded' }
      : { status: 'failed', failureReason: `exited with code ${end.code}` };
  }
}

function describeSignal(signal: NodeJS.Signals): string {
  return `${CRASH_SIGNALS.includes(signal) ? 'crashed with' : 'killed by'} ${signal}`;
}
