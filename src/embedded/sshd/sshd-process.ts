import { execFile, spawn } from 'node:child_process';
import { access, constants, mkdir, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import { SshdError } from '../errors.ts';
import { OutputTail } from '../output-tail.ts';
import { writePrivateKey } from './keys.ts';
import type { KeyPair } from './keys.ts';
import type { ServedConnection } from './loopback-listener.ts';
import { ProcessGroup, ProcessSupervisor } from './process-supervisor.ts';

/** Where it is installed; these are seldom on the PATH of an ordinary user. */
const SYSTEM_DIRECTORIES = ['/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin'];

/** sshd reads nothing else of its environment but the time zone. */
const SSHD_ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C' };

const HOST_KEY_NAME = 'host_key';

/** A session that does not end by SIGTERM within this time gets SIGKILL. */
const TERMINATION_GRACE_MS = 5_000;

/** The absolute path of OpenSSH's sshd, which insists on being called by one; undefined when it is not installed. */
export async function findSshd(path: string): Promise<string | undefined> {
  for (const directory of [...path.split(delimiter).filter(isAbsolute), ...SYSTEM_DIRECTORIES]) {
    const program = join(directory, 'sshd');
    if (await isExecutable(program)) return program;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

interface SshdProcessOptions {
  readonly program: string;
  readonly directory: string;
  readonly username: string;
  readonly clientKey: KeyPair;
}

/**
 * Serves each connection by an sshd of its own, started as inetd does (`sshd -i`): it gets the connection as its
 * standard input and output. So every session is a child of this process, and none can be missed.
 */
export class SshdProcesses {
  readonly #options: SshdProcessOptions;
  readonly #configPath: string;
  readonly #output = new OutputTail();
  readonly #supervisor: ProcessSupervisor;

  static async open(options: SshdProcessOptions): Promise<SshdProcesses> {
    const { directory, clientKey, username } = options;
    await writeFile(join(directory, 'authorized_keys'), `${clientKey.public}\n`, { mode: 0o600 });
    const configPath = join(directory, 'sshd_config');
    await writeFile(configPath, sshdConfig(directory, username), { mode: 0o600 });
    return new SshdProcesses(options, configPath, await ProcessSupervisor.start());
  }

  private constructor(options: SshdProcessOptions, configPath: string, supervisor: ProcessSupervisor) {
    this.#options = options;
    this.#configPath = configPath;
    this.#supervisor = supervisor;
  }

  get outputTail(): string {
    return this.#output.text;
  }

  async useHostKey(key: KeyPair): Promise<void> {
    await writePrivateKey(this.#options.directory, HOST_KEY_NAME, key);
    await checkSshd(this.#options.program, this.#configPath);
  }

  serve(socket: Socket): ServedConnection {
    const child = spawn(this.#options.program, ['-i', '-e', '-f', this.#configPath], {
      stdio: [socket, socket, 'pipe'],
      // A process group of its own, so that one signal reaches the whole session.
      detached: true,
      cwd: '/',
      env: SSHD_ENVIRONMENT,
    });
    // The child has its own copy, and this one would keep the connection open after it.
    socket.destroy();
    child.once('error', (error) => this.#output.append(`${error.message}\n`));
    // Without a process nothing serves it, and the error says why.
    if (child.pid === undefined) return { ended: Promise.resolve(), destroy: () => undefined };
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => this.#output.append(chunk));
    const session = new ProcessGroup(child, child.pid, this.#supervisor);
    return { ended: session.ended.then(() => undefined), destroy: () => endSession(session) };
  }

  /** The supervisor ends every session, as it does when this process is killed. */
  close(): Promise<void> {
    return this.#supervisor.close();
  }
}

function endSession(session: ProcessGroup): void {
  session.signal('SIGTERM');
  const killer = setTimeout(() => session.signal('SIGKILL'), TERMINATION_GRACE_MS);
  void session.ended.then(() => clearTimeout(killer));
}

function sshdConfig(directory: string, username: string): string {
  return [
    `HostKey ${quotePath(join(directory, HOST_KEY_NAME))}`,
    `AuthorizedKeysFile ${quotePath(join(directory, 'authorized_keys')).replaceAll('%', '%%')}`,
    ...allowOnly(username),
    'AuthenticationMethods publickey',
    'PubkeyAuthentication yes',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin prohibit-password',
    'PermitUserEnvironment no',
    'PermitUserRC no',
    'PermitTTY no',
    'DisableForwarding yes',
    // The directory may be in one that everybody can write to; what it holds is ours.
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
 * Only root's sshd could accept other users than its own. Characters that other names may hold, such as `@` or `*`,
 * would be read as a pattern.
 */
function allowOnly(username: string): string[] {
  return /^[\w.-]+$/.test(username) ? [`AllowUsers ${username}`] : [];
}

/** @throws {SshdError} for what sshd's configuration has no way to write */
function quotePath(path: string): string {
  if (/^[^"\\\p{Cc}]+$/u.test(path)) return `"${path}"`;
  throw new SshdError(
    'directory_unusable',
    `sshd cannot be configured with the directory ${JSON.stringify(path)}; choose one without quotes, backslashes and control characters`,
  );
}

/**
 * Lets sshd check its configuration.
 * @throws {SshdError} with what it printed
 */
export async function checkSshd(program: string, configPath: string): Promise<void> {
  const complaint = await complaintOf(program, configPath);
  if (complaint === undefined) return;
  const [, missing] = /Missing privilege separation directory: (\/\S+)/.exec(complaint) ?? [];
  // Usually created when the service starts, which it never does on a machine without an init system.
  if (missing === undefined || process.getuid?.() !== 0) throw configurationFailure(program, complaint);
  await mkdir(missing, { recursive: true, mode: 0o755 });
  const second = await complaintOf(program, configPath);
  if (second !== undefined) throw configurationFailure(program, second);
}

async function complaintOf(program: string, configPath: string): Promise<string | undefined> {
  try {
    await promisify(execFile)(program, ['-t', '-f', configPath], { env: SSHD_ENVIRONMENT });
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return stderr?.trim() || message;
  }
}

function configurationFailure(program: string, complaint: string): SshdError {
  return new SshdError('sshd_failed', `${program} does not accept its configuration:\n${complaint}`);
}
