import type { Socket } from 'node:net';

/** The socket below a connection, as far as those who send and receive much have to know it. */
export class Transport {
  readonly #socket: Socket;
  readonly #log: (line: string) => void;
  readonly #closed = new AbortController();
  #pauses = 0;

  /** To be made before ssh2 gets the socket: after its end ssh2 throws at whoever still has something to send. */
  constructor(socket: Socket, log: (line: string) => void) {
    this.#socket = socket;
    this.#log = log;
    const note = () => this.#closed.abort();
    socket.once('end', note).once('close', note);
  }

  /** Aborted as soon as nothing can be sent any more. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Drops the connection. */
  close(): void {
    this.#closed.abort();
    this.#socket.destroy();
  }

  /** Drops the connection, for a reason that is noted. */
  fail(error: Error): void {
    if (!this.closed.aborted) this.#log(error.message);
    this.close();
  }

  /** Resolves when the client has taken most of what was sent, or is gone. ssh2 itself never waits for that. */
  async drained(): Promise<void> {
    if (!this.#socket.writableNeedDrain || this.closed.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#socket.off('drain', done);
        this.closed.removeEventListener('abort', done);
        resolve();
      };
      this.#socket.on('drain', done);
      this.closed.addEventListener('abort', done);
    });
  }

  /** Stops listening to the client, until each of those who asked for it has called what they got. */
  pause(): () => void {
    this.#pauses += 1;
    this.#socket.pause();
    let resumed = false;
    return () => {
      if (resumed) return;
      resumed = true;
      this.#pauses -= 1;
      if (this.#pauses === 0) this.#socket.resume();
    };
  }
}
