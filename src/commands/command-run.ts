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
import { withLease } from '../producers/with-lease.ts';
import type { RunOutcome } from '../producers/with-lease.ts';

/** A command to execute under a lease, and the run it is the execution of. */
export interface CommandRunOptions {
  command: readonly [string, ...string[]];
  /** Variables for the command, besides those that tell it of its lease. */
  env: Readonly<Record<string, string>>;
  workspaceDirectory: string | undefined;
  drivers: readonly ExecutionDriver[];
  run: RunStart;
  leaseWaitMs: number;
  timeoutMs: number | undefined;
  killAfterMs: number;
  observer: CommandRunObserver;
}

/** Is told how a run goes on. */
export interface CommandRunObserver {
  onLease(lease: GrantedLease): void;
  onPhase(phase: ExecutionPhase): void;
  onProgress(progress: TransferProgress): void;
  onPrepared(report: PrepareReport): void;
  onRestored(report: RestoreReport): void;
  /** A signal came while changed files are brought back: the next one ends that. */
  onHurry(): void;
  /** A signal could not be passed on. */
  onUnsentSignal(error: unknown): void;
}

/** Signals that are passed on to the command. */
const FORWARDED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** Signals by which a process dies of its own fault; any other that ends it was sent by someone who wanted its end. */
const CRASH_SIGNALS: readonly NodeJS.Signals[] = [
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGILL',
  'SIGSEGV',
  'SIGSYS',
  'SIGTRAP',
];

/** What a run is cancelled with before its command has started, and what ends bringing back what it changed. */
class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

/** The command came to its end, but Lessor could not tell: its lease stays until it lapses. */
class EndNotPublishedError extends LessorError {
  constructor(end: ProcessExit, cause: QueueUnreachableError) {
    const ended = end.signal === null ? `exited with code ${end.code}` : `was ended by ${end.signal}`;
    super('queue_unreachable', `the command ${ended}, but that could not be published: ${cause.message}`, { cause });
  }
}

/** One execution of a command under a lease. */
export class CommandRun {
  readonly #producer: HeartbeatProducer;
  readonly #options: CommandRunOptions;
  readonly #interruptedBeforeStart = new AbortController();
  readonly #interruptedRestore = new AbortController();
  #phase: 'waiting' | ExecutionPhase | 'ended' = 'waiting';
  #isHurried = false;
  #execution: Execution | undefined;
  #end: ProcessExit | undefined;
  #received: NodeJS.Signals | undefined;

  constructor(producer: HeartbeatProducer, options: CommandRunOptions) {
    this.#producer = producer;
    this.#options = options;
  }

  /** Resolves with the exit code to end with, once the run's end is published. */
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
      return exit;
    } finally {
      this.#phase = 'ended';
    }
  }

  readonly #enter = (phase: ExecutionPhase, execution: Execution): void => {
    this.#phase = phase;
    this.#execution = execution;
    this.#options.observer.onPhase(phase);
  };

  readonly #forward = (signal: NodeJS.Signals): void => {
    switch (this.#phase) {
      case 'waiting':
      case 'preparing':
        this.#received = signal;
        return this.#interruptedBeforeStart.abort(new InterruptedError(`${signal} was received`));
      case 'executing':
        this.#received = signal;
        this.#execution!.send(signal).catch((error: unknown) => this.#options.observer.onUnsentSignal(error));
        return;
      case 'restoring':
        if (this.#isHurried)
          return this.#interruptedRestore.abort(new InterruptedError(`${signal} was received twice`));
        this.#isHurried = true;
        return this.#options.observer.onHurry();
      case 'ended':
        // All that is left is to publish the end, which can take its time: whoever asks again need not wait for it.
        process.exit(exitCodeOf(this.#end ?? { code: null, signal }));
    }
  };

  #outcomeOf(end: ProcessExit): RunOutcome {
    if (this.#received !== undefined) return { status: 'cancelled' };
    if (end.signal !== null) {
      const isCrash = CRASH_SIGNALS.includes(end.signal);
      return isCrash ? { status: 'failed', failureReason: `crashed with ${end.signal}` } : { status: 'cancelled' };
    }
    return end.code === 0
      ? { status: 'succeeded' }
      : { status: 'failed', failureReason: `exited with code ${end.code}` };
  }
}
