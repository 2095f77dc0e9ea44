import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { OutputTail } from '../output-tail.ts';
import type { ConnectionServer, ServedConnection } from './connection-server.ts';
import { SshServerError } from './errors.ts';
import { writePrivateKey, type KeyPair } from './keys.ts';
import type { LoginAccount } from './login-account.ts';
import { OwnerWatch } from './owner-watch.ts';
import { ProcessGroup } from './process-group.ts';
import { checkSshd, SSHD_ENVIRONMENT } from './sshd-program.ts';

const HOST_KEY_NAME = 'host_key';

/** A session that does not heed SIGTERM in this time is killed. */
const TERMINATION_GRACE_MS = 5_000;

interface SshdServerOptions {
  readonly program: string;
  readonly directory: string;
  readonly account: LoginAccount;
  readonly clientKey: KeyPair;
}

/**
 * Serves each connection by an sshd of its own, started as inetd does (`sshd -i`): it gets the connection as its
 * standard input and output. So every session is a child of this process, and none can be missed.
 */
export class SshdServer implements ConnectionServer {
  readonly #options: SshdServerOptions;
  readonly #configPath: string;
  readonly #output = new OutputTail();
  readonly #watch: OwnerWatch;

  static async open(options: SshdServerOptions): Promise<SshdServer> {
    const { directory, clientKey, account } = options;
    await writeFile(join(directory, 'authorized_keys'), `${clientKey.public}\n`, { mode: 0o600 });
    const configPath = join(directory, 'sshd_config');
    await writeFile(configPath, sshdConfig(directory, account), { mode: 0o600 });
    // A command leads a process group of its own, as the child of a process of the session.
    const watch = await OwnerWatch.start({ toHeld: 'TERM', toStarted: 'HUP' });
    return new SshdServer(options, configPath, watch);
  }

  private constructor(options: SshdServerOptions, configPath: string, watch: OwnerWatch) {
    this.#options = options;
    this.#configPath = configPath;
    this.#watch = watch;
  }

  get lastWords(): string {
    return this.#output.text;
  }

  async useHostKey(key: KeyPair): Promise<void> {
    await writePrivateKey(this.#options.directory, HOST_KEY_NAME, key);
    await checkSshd(this.#options.program, this.#configPath);
  }

  serve(socket: Socket): ServedConnection {
    const child = spawn(this.#options.program, ['-i', '-e', '-f', this.#configPath], {
      stdio: [socket, socket, 'pipe'],
      // A process group of its own, so that all of a session is reached by one signal.
      detached: true,
      cwd: '/',
      env: SSHD_ENVIRONMENT,
    });
    // The child has its own copy, and this one would keep the connection open after it.
    socket.destroy();
    child.once('error', (error) => this.#output.append(`${error.message}\n`));
    // Without a process there is nothing to serve it, and the error says why.
    if (child.pid === undefined) return { ended: Promise.resolve(), cut: () => undefined };
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => this.#output.append(chunk));
    const session = new ProcessGroup(child, child.pid, this.#watch);
    return { ended: session.ended.then(() => undefined), cut: () => cutSession(session) };
  }

  /** The watch does all of it, as it does when the owner is killed. */
  close(): Promise<void> {
    return this.#watch.close();
  }
}

function cutSession(session: ProcessGroup): void {
  session.signal('SIGTERM');
  const killer = setTimeout(() => session.signal('SIGKILL'), TERMINATION_GRACE_MS);
  void session.ended.then(() => clearTimeout(killer));
}

function sshdConfig(directory: string, account: LoginAccount): string {
  return [
    `HostKey ${quotePath(join(directory, HOST_KEY_NAME))}`,
    `AuthorizedKeysFile ${quotePath(join(directory, 'authorized_keys')).replaceAll('%', '%%')}`,
    ...allowOnly(account.username),
    'AuthenticationMethods publickey',
    'PubkeyAuthentication yes',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin prohibit-password',
    'PermitUserEnvironment no',
    'PermitUserRC no',
    'PermitTTY no',
    'DisableForwarding yes',
    // The directory may be in one that everybody can write to; what is in it is ours.
    'StrictModes no',
    'UsePAM no',
    'UseDNS no',
    'PidFile none',
    'PrintMotd no',
    'PrintLastLog no',
    // As if it were not the user's first shell: bash would read all of .bashrc for each command over SSH.
    'SetEnv SHLVL=1',
    'Subsystem sftp internal-sftp',
    '',
  ].join('\n');
}

/**
 * Only root's sshd could let in other users than its own. What other names may hold, such as an `@` or a `*`, would be
 * read as a pattern.
 */
function allowOnly(username: string): string[] {
  return /^[\w.-]+$/.test(username) ? [`AllowUsers ${username}`] : [];
}

/** @throws {@link SshServerError} for what sshd's configuration has no way to write. */
function quotePath(path: string): string {
  if (/^[^"\\\p{Cc}]+$/u.test(path)) return `"${path}"`;
  throw new SshServerError(
    'directory_unusable',
    `sshd cannot be told of the directory ${JSON.stringify(path)}. Choose one without quotes, backslashes and control characters.`,
  );
}
