import type { Socket } from 'node:net';
import { OutputTail } from '../output-tail.ts';
import { BuiltinConnection } from './builtin-connection.ts';
import type { ConnectionServer, ServedConnection } from './connection-server.ts';
import type { KeyPair } from './keys.ts';
import type { LoginAccount } from './login-account.ts';
import { OwnerWatch } from './owner-watch.ts';

interface BuiltinServerOptions {
  readonly account: LoginAccount;
  readonly clientKey: KeyPair;
}

/** Serves connections in this process, by ssh2's server. */
export class BuiltinServer implements ConnectionServer {
  readonly #options: BuiltinServerOptions;
  readonly #output = new OutputTail();
  /** Holds the process group of each command. */
  readonly #watch: OwnerWatch;
  readonly #connections = new Set<BuiltinConnection>();
  #hostKey: KeyPair | undefined;

  static async open(options: BuiltinServerOptions): Promise<BuiltinServer> {
    return new BuiltinServer(options, await OwnerWatch.start({ toHeld: 'HUP' }));
  }

  private constructor(options: BuiltinServerOptions, watch: OwnerWatch) {
    this.#options = options;
    this.#watch = watch;
  }

  get lastWords(): string {
    return this.#output.text;
  }

  async useHostKey(key: KeyPair): Promise<void> {
    this.#hostKey = key;
  }

  serve(socket: Socket): ServedConnection {
    if (!this.#hostKey) throw new Error('The server has no host key yet.');
    const connection = new BuiltinConnection(socket, {
      ...this.#options,
      hostKey: this.#hostKey,
      watch: this.#watch,
      log: (line) => this.#output.append(`${line}\n`),
    });
    this.#connections.add(connection);
    void connection.ended.then(() => this.#connections.delete(connection));
    return connection;
  }

  async close(): Promise<void> {
    const connections = [...this.#connections];
    for (const connection of connections) connection.cut();
    await Promise.all(connections.map((connection) => connection.ended));
    await this.#watch.close();
  }
}
