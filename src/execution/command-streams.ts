import type { Readable, Writable } from 'node:stream';
import type { Command } from './driver.ts';

/** A local or remote process, as far as its standard streams and its end are concerned. */
export interface ProcessStreams {
  /** Null where the process shares a stream with this one. */
  stdin: Writable | null;
  stdout: Readable | null;
  stderr: Readable | null;
  /** `exit` is emitted when the process has ended, `close` when its output has ended as well. */
  on(event: 'exit' | 'close', listener: (code?: number | null, signal?: string | null) => void): unknown;
}

/** How a process ended, as reported: both null when a host closed the session without a report. */
export interface ReportedExit {
  code: number | null;
  signal: string | null;
}

/** Options of {@link CommandStreams}. */
export interface CommandStreamsOptions {
  /** The exit, when it was reported before anybody could listen. */
  exit?: ReportedExit | undefined;
  /** Called when one of the outputs can no longer be written to. */
  onReaderClosed(): void;
  /** Closes the outputs that processes left by the command hold open. */
  detach(): void;
}

/**
 * After its exit a process's output counts as ended when nothing arrives for so long. That much time passes only when a
 * process left by the command holds the output open.
 */
const OUTPUT_QUIET_MS = 2_000;
const POLL_INTERVAL_MS = 100;

/** Pipes the standard streams of a process. A slow reader slows the process down. */
export class CommandStreams {
  /** Resolves when the process has exited and all of its output was written. */
  readonly exited: Promise<ReportedExit>;
  readonly #stdin: Readable | undefined;
  readonly #input: Writable | null;
  readonly #outputs: { from: Readable; to: Writable }[] = [];
  readonly #dropped = new Set<Readable>();
  readonly #options: CommandStreamsOptions;
  #lastOutputAt = performance.now();
  #quietTimer: NodeJS.Timeout | undefined;
  #resolveExited!: (exit: ReportedExit) => void;

  constructor(
    streams: ProcessStreams,
    { stdin, stdout, stderr }: Pick<Command, 'stdin' | 'stdout' | 'stderr'>,
    options: CommandStreamsOptions,
  ) {
    this.#options = options;
    this.#stdin = stdin;
    this.#input = streams.stdin;
    if (streams.stdout !== null) this.#outputs.push({ from: streams.stdout, to: stdout });
    if (streams.stderr !== null) this.#outputs.push({ from: streams.stderr, to: stderr });
    this.exited = new Promise((resolve) => (this.#resolveExited = resolve));
    this.#connectInput();
    for (const output of this.#outputs) this.#connectOutput(output);
    streams.on('close', (code, signal) => this.#finish(reportedExit(code, signal)));
    streams.on('exit', (code, signal) => this.#awaitQuiet(reportedExit(code, signal)));
    if (options.exit !== undefined) this.#awaitQuiet(options.exit);
  }

  /** Stops piping, for a process that nobody waits for any more. */
  abandon(): void {
    clearInterval(this.#quietTimer);
    this.#disconnect();
    for (const { from } of this.#outputs) from.resume();
    this.#options.detach();
  }

  #connectInput(): void {
    if (this.#input === null) return;
    // A process that has ended or closed its stdin takes no more input, which is not an error.
    this.#input.on('error', this.#disconnectInput);
    if (this.#stdin === undefined || this.#stdin.destroyed) this.#input.end();
    else this.#stdin.on('error', this.#endInput).pipe(this.#input);
  }

  #connectOutput({ from, to }: { from: Readable; to: Writable }): void {
    from.on('data', () => (this.#lastOutputAt = performance.now()));
    from.pipe(to.on('error', this.#dropOutput).on('close', this.#dropOutput), { end: false });
    if (to.destroyed) this.#dropOutput();
  }

  readonly #endInput = (): void => {
    this.#input?.end();
  };

  readonly #disconnectInput = (): void => {
    if (this.#input !== null) this.#stdin?.off('error', this.#endInput).unpipe(this.#input);
  };

  /** Discards the rest of an output without a reader, since the other one may still be read. */
  readonly #dropOutput = (): void => {
    for (const { from, to } of this.#outputs) {
      if (to.writable || this.#dropped.has(from)) continue;
      this.#dropped.add(from);
      from.unpipe(to).resume();
      this.#options.onReaderClosed();
    }
  };

  #awaitQuiet(exit: ReportedExit): void {
    this.#disconnectInput();
    this.#lastOutputAt = performance.now();
    this.#quietTimer ??= setInterval(() => {
      if (this.#outputs.some(({ to }) => to.writableNeedDrain)) this.#lastOutputAt = performance.now();
      if (performance.now() - this.#lastOutputAt < OUTPUT_QUIET_MS) return;
      this.abandon();
      this.#resolveExited(exit);
    }, POLL_INTERVAL_MS);
  }

  #finish(exit: ReportedExit): void {
    clearInterval(this.#quietTimer);
    this.#disconnect();
    this.#resolveExited(exit);
  }

  #disconnect(): void {
    this.#disconnectInput();
    for (const { from, to } of this.#outputs) {
      from.unpipe(to);
      to.off('error', this.#dropOutput).off('close', this.#dropOutput);
    }
  }
}

function reportedExit(code: number | null | undefined, signal: string | null | undefined): ReportedExit {
  return { code: code ?? null, signal: signal ?? null };
}
