import type { Socket } from 'node:net';
import ssh2, { type Connection, type Session } from 'ssh2';
import { authenticate } from './authentication.ts';
import { runCommand } from './command-session.ts';
import type { ServedConnection } from './connection-server.ts';
import type { KeyPair } from './keys.ts';
import type { LoginAccount } from './login-account.ts';
import type { OwnerWatch } from './owner-watch.ts';
import { serveSftp } from './sftp/sftp-session.ts';
import { Transport } from './transport.ts';

/** As sshd's MaxSessions. */
const MAX_SESSIONS = 10;

/** As sshd's LoginGraceTime. */
const LOGIN_GRACE_MS = 120_000;

interface BuiltinConnectionOptions {
  readonly account: LoginAccount;
  readonly clientKey: KeyPair;
  readonly hostKey: KeyPair;
  readonly watch: OwnerWatch;
  readonly log: (line: string) => void;
}

/** One client, from its first byte on. Whatever it does wrong ends this connection and nothing else. */
export class BuiltinConnection implements ServedConnection {
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #transport: Transport;
  readonly #options: BuiltinConnectionOptions;
  readonly #running = new Set<Promise<void>>();
  #sessions = 0;

  constructor(socket: Socket, options: BuiltinConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#transport = new Transport(socket, options.log);
    this.ended = this.#end();
    // One server for each connection, which tells which client is on which socket.
    const server = new ssh2.Server({ hostKeys: [options.hostKey.private] }, (client) => this.#welcome(client));
    server.injectSocket(socket);
    const grace = setTimeout(() => this.cut(), LOGIN_GRACE_MS);
    server.once('connection', (client: Connection) => client.once('ready', () => clearTimeout(grace)));
    socket.once('close', () => clearTimeout(grace));
  }

  cut(): void {
    this.#transport.close();
  }

  async #end(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    await Promise.all(this.#running);
  }

  #welcome(client: Connection): void {
    const { account, clientKey } = this.#options;
    client.on('error', (error: Error) => this.#transport.fail(error));
    authenticate(client, { username: account.username, clientKey });
    client.on('session', (accept, reject) => {
      if (this.#sessions >= MAX_SESSIONS) return reject();
      this.#sessions += 1;
      const session = accept();
      session.once('close', () => (this.#sessions -= 1));
      this.#offer(session);
    });
  }

  #offer(session: Session): void {
    const { account, watch } = this.#options;
    session.once('exec', (accept, _reject, { command }) => {
      this.#track(runCommand({ command, channel: accept(), session, account, watch, transport: this.#transport }));
    });
    session.once('sftp', (accept) => {
      this.#track(serveSftp(accept(), { home: account.home, session, transport: this.#transport }));
    });
  }

  #track(running: Promise<void>): void {
    const settled = running.catch((error: Error) => this.#transport.fail(error));
    this.#running.add(settled);
    void settled.then(() => this.#running.delete(settled));
  }
}
