import type { ServerChannel } from 'ssh2';
import { forgetPausedWrites } from './ssh2-internals.ts';
import type { Transport } from './transport.ts';

/** What a command says to its client: one write at a time, and none before the client has taken the one before. */
export class ChannelOutput {
  readonly #channel: ServerChannel;
  readonly #transport: Transport;
  /** Aborted when there is nobody to say anything to. */
  readonly #gone: AbortSignal;
  #last: Promise<void> = Promise.resolve();

  constructor(channel: ServerChannel, transport: Transport, gone: AbortSignal) {
    this.#channel = channel;
    this.#transport = transport;
    this.#gone = gone;
  }

  /** Resolves when it is sent, or when the client is gone. */
  write(target: 'stdout' | 'stderr', chunk: Buffer): Promise<void> {
    this.#last = this.#last.then(() => this.#writeNow(target, chunk));
    return this.#last;
  }

  /** Says how the command ended: its exit code, or the signal that it died of. */
  exit(end: number | NodeJS.Signals): void {
    if (this.#gone.aborted) return;
    if (typeof end === 'number') this.#channel.exit(end);
    else this.#channel.exit(end.replace(/^SIG/, ''), false, '');
  }

  /** Closes the channel. */
  end(): void {
    if (!this.#gone.aborted) this.#channel.end();
  }

  async #writeNow(target: 'stdout' | 'stderr', chunk: Buffer): Promise<void> {
    await this.#transport.drained();
    if (this.#gone.aborted) return;
    const stream = target === 'stdout' ? this.#channel : this.#channel.stderr;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#gone.removeEventListener('abort', done);
        resolve();
      };
      // ssh2 does not call back for a channel that is closed meanwhile.
      this.#gone.addEventListener('abort', done);
      stream.write(chunk, done);
    });
    forgetPausedWrites(this.#channel);
  }
}
