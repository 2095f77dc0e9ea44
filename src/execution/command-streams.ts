import type { Readable, Writable } from 'node:stream';
import type { Command } from './driver.ts';

/** A process whose standard streams are to be carried, be it a child of this one or on a host. */
export interface StreamedProcess {
  /** Null where the process shares a stream with this one. */
  stdin: Writable | null;
  stdout: Readable | null;
  stderr: Readable | null;
  /** `exit` tells that the process has ended, `close` that there is no more output either. */
  on(event: 'exit' | 'close', listener: (code?: number | null, signal?: string | null) => void): unknown;
}

/** What is told of a process's end: neither, where a host closed the session without a word. */
export interface ToldEnd {
  code: number | null;
  signal: string | null;
}

/** What has to be done from outside. */
export interface StreamsOptions {
  /** The end, where it was told before anybody could listen. */
  end?: ToldEnd | undefined;
  /** One of the outputs cannot be written to any more. */
  onReaderGone(): void;
  /** Whatever the process left running is let go, with the output that it holds open. */
  letGo(): void;
}

/**
 * How long after its end a process's output is waited for while nothing comes. It takes that long only when something
 * that the process left running holds its output open.
 */
const QUIET_MS = 2_000;
const LOOK_EVERY_MS = 100;

/** Carries the standard streams of a process. A reader that is slow slows the process down. */
export class CommandStreams {
  /** Resolves when the process has ended and all of its output was handed on. */
  readonly ended: Promise<ToldEnd>;
  readonly #stdin: Readable | undefined;
  readonly #input: Writable | null;
  readonly #outputs: { from: Readable; to: Writable }[] = [];
  readonly #dropped = new Set<Readable>();
  readonly #options: StreamsOptions;
  #heardAt = performance.now();
  #quietCheck: NodeJS.Timeout | undefined;
  #tellEnd!: (end: ToldEnd) => void;

  constructor(
    streamed: StreamedProcess,
    { stdin, stdout, stderr }: Pick<Command, 'stdin' | 'stdout' | 'stderr'>,
    options: StreamsOptions,
  ) {
    this.#options = options;
    this.#stdin = stdin;
    this.#input = streamed.stdin;
    if (streamed.stdout !== null) this.#outputs.push({ from: streamed.stdout, to: stdout });
    if (streamed.stderr !== null) this.#outputs.push({ from: streamed.stderr, to: stderr });
    this.ended = new Promise((resolve) => (this.#tellEnd = resolve));
    this.#connectInput();
    for (const output of this.#outputs) this.#connectOutput(output);
    streamed.on('close', (code, signal) => this.#finish(toldEnd(code, signal)));
    streamed.on('exit', (code, signal) => this.#awaitQuiet(toldEnd(code, signal)));
    if (options.end !== undefined) this.#awaitQuiet(options.end);
  }

  /** Lets go of a process that is waited for no longer. */
  abandon(): void {
    clearInterval(this.#quietCheck);
    this.#disconnect();
    for (const { from } of this.#outputs) from.resume();
    this.#options.letGo();
  }

  #connectInput(): void {
    if (this.#input === null) return;
    // A process that has ended, or closed its stdin, takes no more. That is no error of anybody.
    this.#input.on('error', this.#disconnectInput);
    if (this.#stdin === undefined || this.#stdin.destroyed) this.#input.end();
    else this.#stdin.on('error', this.#endInput).pipe(this.#input);
  }

  #connectOutput({ from, to }: { from: Readable; to: Writable }): void {
    from.on('data', () => (this.#heardAt = performance.now()));
    from.pipe(to.on('error', this.#dropOutput).on('close', this.#dropOutput), { end: false });
    if (to.destroyed) this.#dropOutput();
  }

  readonly #endInput = (): void => {
    this.#input?.end();
  };

  readonly #disconnectInput = (): void => {
    if (this.#input !== null) this.#stdin?.off('error', this.#endInput).unpipe(this.#input);
  };

  /** The rest of an output that nobody reads is thrown away, as the other one may still be read. */
  readonly #dropOutput = (): void => {
    for (const { from, to } of this.#outputs) {
      if (to.writable || this.#dropped.has(from)) continue;
      this.#dropped.add(from);
      from.unpipe(to).resume();
      this.#options.onReaderGone();
    }
  };

  #awaitQuiet(end: ToldEnd): void {
    this.#disconnectInput();
    this.#heardAt = performance.now();
    this.#quietCheck ??= setInterval(() => {
      if (this.#outputs.some(({ to }) => to.writableNeedDrain)) this.#heardAt = performance.now();
      if (performance.now() - this.#heardAt < QUIET_MS) return;
      this.abandon();
      this.#tellEnd(end);
    }, LOOK_EVERY_MS);
  }

  #finish(end: ToldEnd): void {
    clearInterval(this.#quietCheck);
    this.#disconnect();
    this.#tellEnd(end);
  }

  #disconnect(): void {
    this.#disconnectInput();
    for (const { from, to } of this.#outputs) {
      from.unpipe(to);
      to.off('error', this.#dropOutput).off('close', this.#dropOutput);
    }
  }
}

function toldEnd(code: number | null | undefined, signal: string | null | undefined): ToldEnd {
  return { code: code ?? null, signal: signal ?? null };
}
