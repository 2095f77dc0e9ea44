import type { Socket } from 'node:net';

/** The socket below a connection, as far as those who send and receive much have to know it. */
export class Transport {
  /** Aborted when the socket is closed. */
  readonly closed: AbortSignal;
  readonly #socket: Socket;
  #pauses = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    const closed = new AbortController();
    this.closed = closed.signal;
    socket.once('close', () => closed.abort());
  }

  /** Resolves when the client has taken most of what was sent, or is gone. ssh2 itself never waits for that. */
  async drained(): Promise<void> {
    if (!this.#socket.writableNeedDrain || this.closed.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#socket.off('drain', done).off('close', done);
        resolve();
      };
      this.#socket.on('drain', done).on('close', done);
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
