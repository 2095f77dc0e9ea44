import type { Transport } from '../transport.ts';

/** When this much waits to be done, the client is not listened to until it is less. */
const MAX_WAITING_REQUESTS = 128;
const MAX_WAITING_BYTES = 4 * 1_024 * 1_024;

interface Request {
  /** Never rejects. */
  readonly serve: () => Promise<void>;
  readonly bytes: number;
}

/** Serves the requests of a client one after the other, as OpenSSH does, so that each sees what the ones before did. */
export class RequestQueue {
  readonly #transport: Transport;
  readonly #waiting: Request[] = [];
  #bytes = 0;
  #serving: Promise<void> = Promise.resolve();
  #busy = false;
  #listenAgain: (() => void) | undefined;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  add(request: Request): void {
    this.#waiting.push(request);
    this.#bytes += request.bytes;
    if (this.#isFull) this.#listenAgain ??= this.#transport.pause();
    if (!this.#busy) this.#serving = this.#serveAll();
  }

  /** Forgets what has not begun. */
  abandon(): void {
    this.#waiting.length = 0;
  }

  /** Resolves when nothing is left to serve. */
  idle(): Promise<void> {
    return this.#serving;
  }

  get #isFull(): boolean {
    return this.#waiting.length >= MAX_WAITING_REQUESTS || this.#bytes >= MAX_WAITING_BYTES;
  }

  async #serveAll(): Promise<void> {
    this.#busy = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      await this.#transport.drained();
      await next.serve();
      this.#bytes -= next.bytes;
      if (!this.#isFull) this.#listen();
    }
    this.#busy = false;
    this.#listen();
  }

  #listen(): void {
    this.#listenAgain?.();
    this.#listenAgain = undefined;
  }
}
