import { constants } from 'node:os';
import { LessorError, QueueUnreachableError } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import { LocalProcess, exitCodeOf } from '../execution/local-process.ts';
import type { ProcessEnd } from '../execution/local-process.ts';
import type { HeartbeatProducer, RunStart } from '../producers/producer.ts';
import { withLease } from '../producers/with-lease.ts';
import type { RunOutcome } from '../producers/with-lease.ts';

/** A command to execute under a lease, and the run it is the execution of. */
export interface CommandRunOptions {
  command: { file: string; args: readonly string[] };
  run: RunStart;
  leaseWaitMs: number;
  timeoutMs: number | undefined;
  killAfterMs: number;
  onLease(lease: GrantedLease): void;
}

/** Signals that are passed on to the command. */
const FORWARDED_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** Of these, those that a terminal sends to every process it runs, the command included. */
const TERMINAL_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT', 'SIGHUP'];

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

/** What a run that is waiting for its lease is cancelled with. */
class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

/** The command came to its end, but Lessor could not tell: its lease stays until it lapses. */
class EndNotPublishedError extends LessorError {
  constructor(end: ProcessEnd, cause: QueueUnreachableError) {
    const ended = end.signal === null ? `exited with code ${end.code}` : `was ended by ${end.signal}`;
    super('queue_unreachable', `the command ${ended}, but that could not be published: ${cause.message}`, { cause });
  }
}

/** One execution of a command under a lease. */
export class CommandRun {
  readonly #producer: HeartbeatProducer;
  readonly #options: CommandRunOptions;
  readonly #interruptedBeforeStart = new AbortController();
  #process: LocalProcess | undefined;
  #end: ProcessEnd | undefined;
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

  async #executeUnder(lease: GrantedLease, signal: AbortSignal): Promise<ProcessEnd> {
    this.#options.onLease(lease);
    this.#process = await LocalProcess.start({
      ...this.#options.command,
      env: { ...process.env, ...environmentOf(lease) },
      terminal: isAtTerminal(),
      signal,
      killAfterMs: this.#options.killAfterMs,
    });
    this.#end = await this.#process.ended();
    return this.#end;
  }

  readonly #forward = (signal: NodeJS.Signals): void => {
    this.#received = signal;
    // All that is left is to publish the end, which can take its time: whoever asks again need not wait for it.
    if (this.#end !== undefined) process.exit(exitCodeOf(this.#end));
    if (this.#process === undefined) this.#interruptedBeforeStart.abort(new InterruptedError(signal));
    else if (!(isAtTerminal() && TERMINAL_SIGNALS.includes(signal))) this.#process.send(signal);
  };

  #outcomeOf(end: ProcessEnd): RunOutcome {
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

/** What the command is told of its lease. */
function environmentOf(lease: GrantedLease): NodeJS.ProcessEnv {
  return {
    LESSOR_RUN_ID: lease.runId,
    LESSOR_LEASE_ID: lease.id,
    LESSOR_FENCING_TOKEN: String(lease.fencingToken),
    PAPERCLIP_ENVIRONMENT: JSON.stringify(lease.environment),
  };
}

function isAtTerminal(): boolean {
  return process.stdin.isTTY;
}
