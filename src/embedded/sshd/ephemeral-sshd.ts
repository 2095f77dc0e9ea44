import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { resolve } from 'node:path';
import ssh2 from 'ssh2';
import type { ClientChannel } from 'ssh2';
import { messageOf } from '../../lib/errors.ts';
import { SshdError } from '../errors.ts';
import { generateKeyPair, knownHostsLine, writePrivateKey } from './keys.ts';
import type { KeyPair } from './keys.ts';
import { LOOPBACK, LoopbackListener } from './loopback-listener.ts';
import { SshdProcesses, findSshd } from './sshd-process.ts';

const LOGIN_TIMEOUT_MS = 20_000;

export interface EphemeralSshdOptions {
  /** Where keys and configuration are written; the caller creates and removes it. */
  readonly directory: string;
}

/**
 * Starts OpenSSH's sshd on a free port of 127.0.0.1 that accepts the user of this process, by one key generated for it.
 * It ends with this process, even when that is killed, and keeps it alive until it is closed.
 *
 * @throws {SshdError} when it cannot be started; its `code` and message say why
 */
export async function openEphemeralSshd(options: EphemeralSshdOptions): Promise<EphemeralSshd> {
  const directory = resolve(options.directory);
  await requireDirectory(directory);
  const username = readUsername();
  const program = await findSshd(process.env['PATH'] ?? '');
  if (program === undefined) {
    throw new SshdError(
      'sshd_missing',
      'OpenSSH’s sshd is neither on the PATH nor in /usr/sbin; install it (Debian and Ubuntu: apt-get install openssh-server)',
    );
  }
  const clientKey = generateKeyPair();
  const privateKeyPath = await writePrivateKey(directory, 'client_key', clientKey);
  const processes = await SshdProcesses.open({ program, directory, username, clientKey });
  return new EphemeralSshd({ username, privateKeyPath, clientKey, processes }).open();
}

interface Parts {
  readonly username: string;
  readonly privateKeyPath: string;
  readonly clientKey: KeyPair;
  readonly processes: SshdProcesses;
}

/** An sshd that accepts one user, by one key. Its methods take effect in the order in which they are called. */
export class EphemeralSshd {
  readonly host = LOOPBACK;
  readonly #parts: Parts;
  readonly #listener: LoopbackListener;
  #hostKey = generateKeyPair();
  #lastAction: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#listener = new LoopbackListener((socket) => parts.processes.serve(socket));
  }

  /** Whom commands run as: the user of this process. */
  get username(): string {
    return this.#parts.username;
  }

  /** The only key that is accepted, in a file that only its owner can read. */
  get privateKeyPath(): string {
    return this.#parts.privateKeyPath;
  }

  get port(): number {
    return this.#listener.port;
  }

  /** The lines of `known_hosts` for its present host key. */
  get knownHosts(): string {
    return knownHostsLine(this.host, this.port, this.#hostKey);
  }

  /** Starts it for the first time; when that fails nothing is left running. */
  async open(): Promise<this> {
    try {
      await this.#parts.processes.useHostKey(this.#hostKey);
      await this.start();
      await this.#checkLogin();
      return this;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Accepts clients again. Does nothing when it is started. */
  start(): Promise<void> {
    return this.#inOrder(() => this.#listener.start());
  }

  /** Destroys all connections and accepts no new ones. Port and keys are kept. Does nothing when it is stopped. */
  stop(): Promise<void> {
    return this.#inOrder(async () => {
      this.#listener.stop();
      await this.#listener.destroyConnections();
    });
  }

  /** Destroys all connections and shows new ones another host key, as a reinstalled host does. */
  changeHostKey(): Promise<void> {
    return this.#inOrder(async () => {
      const hostKey = generateKeyPair();
      await this.#parts.processes.useHostKey(hostKey);
      this.#hostKey = hostKey;
      await this.#listener.destroyConnections();
    });
  }

  /** Ends it with every process of its sessions. Calling it again returns the same promise. */
  close(): Promise<void> {
    this.#closing ??= this.#afterLastAction(async () => {
      this.#listener.stop();
      try {
        await this.#parts.processes.close();
      } finally {
        await this.#listener.destroyConnections();
      }
    });
    return this.#closing;
  }

  #inOrder(action: () => Promise<void>): Promise<void> {
    if (this.#closing !== undefined) {
      return Promise.reject(new SshdError('server_closed', 'the sshd is closed; open another one'));
    }
    return this.#afterLastAction(action);
  }

  #afterLastAction(action: () => Promise<void>): Promise<void> {
    const done = this.#lastAction.then(action, action);
    this.#lastAction = done;
    return done;
  }

  /**
   * Logs in and runs a command, since an sshd that accepts connections may still reject the account: one that is
   * locked, say, or has no shell.
   */
  async #checkLogin(): Promise<void> {
    const { host, port, username } = this;
    const client = new ssh2.Client();
    const failed = new AbortController();
    client.on('error', (error) => failed.abort(error));
    client.on('close', () => failed.abort(new Error('it closed the connection')));
    const signal = AbortSignal.any([failed.signal, AbortSignal.timeout(LOGIN_TIMEOUT_MS)]);
    try {
      const ready = once(client, 'ready', { signal });
      const privateKey = this.#parts.clientKey.private;
      client.connect({ host, port, username, privateKey, readyTimeout: LOGIN_TIMEOUT_MS });
      await ready;
      const channel = await new Promise<ClientChannel>((opened, reject) => {
        client.exec('exit 0', (error, stream) => (error ? reject(error) : opened(stream)));
      });
      channel.resume();
      // Not 'exit', which may have been emitted before this listens.
      const [code] = (await once(channel, 'close', { signal })) as [number | null | undefined];
      if (code !== 0) throw new Error(`the login shell ended a command with ${code}`);
    } catch (error) {
      const cause: unknown = signal.aborted ? signal.reason : error;
      const reason = messageOf(cause);
      const message = `the sshd on ${host}:${port} rejects ${username}: ${reason}. Its output ended:\n${this.#parts.processes.outputTail}`;
      throw new SshdError('login_failed', message, { cause });
    } finally {
      client.end();
    }
  }
}

async function requireDirectory(path: string): Promise<void> {
  try {
    await access(`${path}/.`, constants.W_OK | constants.X_OK);
  } catch (error) {
    const message = `the sshd cannot write its keys into ${path}; create that directory first, as the user of this process`;
    throw new SshdError('directory_unusable', message, { cause: error });
  }
}

function readUsername(): string {
  try {
    return userInfo().username;
  } catch (error) {
    throw new SshdError(
      'no_login_account',
      'this machine has no account for the user of this process, so nobody can log in; run it as a user that has one',
      { cause: error },
    );
  }
}
