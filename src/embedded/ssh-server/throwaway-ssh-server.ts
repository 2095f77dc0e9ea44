import { checkLogin } from './check-login.ts';
import type { ConnectionServer } from './connection-server.ts';
import { SshServerError } from './errors.ts';
import { generateKeyPair, knownHostsLine, type KeyPair } from './keys.ts';
import { LOOPBACK, LoopbackListener } from './loopback-listener.ts';

export type SshServerKind = 'sshd' | 'builtin';

/** A server that lets one user in, by one key. Its methods take effect in the order in which they are called. */
export interface SshServer {
  readonly kind: SshServerKind;
  readonly host: typeof LOOPBACK;
  readonly port: number;
  /** Whom commands run as: the user of this process. */
  readonly username: string;
  /** The lines of `known_hosts` that name its present host key. */
  readonly knownHosts: string;
  /** The only key that is let in, in a file that only its owner can read. */
  readonly privateKeyPath: string;
  /** Cuts all connections and refuses new ones. Port and keys are kept. Harmless when it is stopped. */
  stop(): Promise<void>;
  /** Lets clients in again. Harmless when it is started. */
  start(): Promise<void>;
  /** Cuts all connections and shows new ones another host key, as a host does that was set up anew. */
  changeHostKey(): Promise<void>;
  /** Ends it with everything that runs in its sessions. Calling it again returns the same promise. */
  close(): Promise<void>;
}

interface Parts {
  readonly kind: SshServerKind;
  readonly username: string;
  readonly privateKeyPath: string;
  readonly clientKey: KeyPair;
  readonly connectionServer: ConnectionServer;
}

export class ThrowawaySshServer implements SshServer {
  readonly host = LOOPBACK;
  readonly #parts: Parts;
  readonly #listener: LoopbackListener;
  #hostKey = generateKeyPair();
  #turn: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#listener = new LoopbackListener((socket) => parts.connectionServer.serve(socket));
  }

  get kind(): SshServerKind {
    return this.#parts.kind;
  }

  get username(): string {
    return this.#parts.username;
  }

  get privateKeyPath(): string {
    return this.#parts.privateKeyPath;
  }

  get port(): number {
    return this.#listener.port;
  }

  get knownHosts(): string {
    return knownHostsLine(this.host, this.port, this.#hostKey);
  }

  /** Starts it for the first time; when that fails nothing is left running. */
  async open(): Promise<this> {
    try {
      await this.#parts.connectionServer.useHostKey(this.#hostKey);
      await this.start();
      const { clientKey, connectionServer } = this.#parts;
      const { host, port, username } = this;
      await checkLogin({ host, port, username, clientKey }, () => connectionServer.lastWords);
      return this;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  start(): Promise<void> {
    return this.#inTurn(() => this.#listener.start());
  }

  stop(): Promise<void> {
    return this.#inTurn(async () => {
      this.#listener.stop();
      await this.#listener.cut();
    });
  }

  changeHostKey(): Promise<void> {
    return this.#inTurn(async () => {
      const hostKey = generateKeyPair();
      await this.#parts.connectionServer.useHostKey(hostKey);
      this.#hostKey = hostKey;
      await this.#listener.cut();
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#afterTurn(async () => {
      this.#listener.stop();
      try {
        await this.#parts.connectionServer.close();
      } finally {
        await this.#listener.cut();
      }
    });
    return this.#closing;
  }

  #inTurn(action: () => Promise<void>): Promise<void> {
    if (this.#closing) {
      return Promise.reject(new SshServerError('server_closed', 'The SSH server is closed. Open another one.'));
    }
    return this.#afterTurn(action);
  }

  #afterTurn(action: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(action, action);
    this.#turn = turn;
    return turn;
  }
}
