import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { hasCode } from '../../lib/errors.ts';
import { SshdError } from '../errors.ts';

export const LOOPBACK = '127.0.0.1';

/** A connection that a process serves. */
export interface ServedConnection {
  /** Resolves when the connection has ended. */
  readonly ended: Promise<void>;
  destroy(): void;
}

/** Below the ephemeral ports of systems, so that no outgoing connection gets the port of a server that is stopped. */
const [LOWEST_PORT, PORTS_END] = [10_240, 32_768];
const PORT_ATTEMPTS = 20;

/** More than tests and demonstrations need; each may be a process. */
const MAX_CONNECTIONS = 256;

/** Longest wait for all connections to end. */
const DESTROY_TIMEOUT_MS = 15_000;

/** Accepts connections on one port of 127.0.0.1, and can stop and start doing so. */
export class LoopbackListener {
  readonly #serve: (socket: Socket) => ServedConnection;
  readonly #connections = new Set<ServedConnection>();
  #server: Server | undefined;
  #port = 0;

  constructor(serve: (socket: Socket) => ServedConnection) {
    this.#serve = serve;
  }

  /** Chosen when it first listens; the same for all later starts. */
  get port(): number {
    return this.#port;
  }

  /** @throws {@link SshdError} when the port is taken. */
  async start(): Promise<void> {
    if (this.#server) return;
    this.#server = this.#port === 0 ? await this.#listenOnFreePort() : await this.#listen(this.#port);
  }

  /** From now on accepts no new connections. */
  stop(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  /** Destroys all connections, and resolves when the last one has ended. */
  async destroyConnections(): Promise<void> {
    const connections = [...this.#connections];
    for (const connection of connections) connection.destroy();
    const settled = new AbortController();
    const ended = Promise.all(connections.map((connection) => connection.ended));
    const outcome = await Promise.race([ended, delay(DESTROY_TIMEOUT_MS, 'late' as const, settled)]);
    settled.abort();
    if (outcome !== 'late') return;
    throw new SshdError(
      'sessions_left',
      `connections of the sshd on port ${this.#port} could not be ended within ${DESTROY_TIMEOUT_MS} ms`,
    );
  }

  async #listenOnFreePort(): Promise<Server> {
    for (let attempt = 1; ; attempt += 1) {
      const port = randomInt(LOWEST_PORT, PORTS_END);
      try {
        const server = await this.#listen(port);
        this.#port = port;
        return server;
      } catch (error) {
        const taken = error instanceof SshdError && error.code === 'port_in_use';
        if (!taken || attempt === PORT_ATTEMPTS) throw error;
      }
    }
  }

  async #listen(port: number): Promise<Server> {
    // Not a byte is read here: all of them belong to the process that serves the connection.
    const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => void this.#accept(socket));
    server.listen({ host: LOOPBACK, port, exclusive: true });
    try {
      await once(server, 'listening');
    } catch (error) {
      if (!hasCode(error, 'EADDRINUSE', 'EACCES')) throw error;
      const message = `port ${port} of ${LOOPBACK} is taken by another process; end that one, or open another sshd`;
      throw new SshdError('port_in_use', message, { cause: error });
    }
    return server;
  }

  async #accept(socket: Socket): Promise<void> {
    if (this.#connections.size >= MAX_CONNECTIONS) return void socket.destroy();
    const connection = this.#serve(socket);
    this.#connections.add(connection);
    await connection.ended;
    this.#connections.delete(connection);
  }
}
