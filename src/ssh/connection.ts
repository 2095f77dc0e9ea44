import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, ClientChannel, SFTPWrapper } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import type { SecretResolver } from '../secrets/resolver.ts';
import { addressOf } from './address.ts';
import type { SshConfig } from './config.ts';
import { dial } from './dial.ts';
import type { Dialled } from './dial.ts';
import { HostKeyCheck } from './host-key-check.ts';
import { readPrivateKey } from './private-key.ts';
import { SCRIPT_COMMAND, betweenMarks, readChannel, wrapScript } from './script.ts';
import type { ChannelOutput, ScriptResult } from './script.ts';
import { SessionSlots } from './session-slots.ts';

/** How a connection is made. */
export interface ConnectOptions {
  secrets: SecretResolver;
  /** Ends the attempt; a connection that stands is not touched by it. */
  signal: AbortSignal;
  /** For reaching the host and logging in, in milliseconds. Default 10 seconds. */
  timeoutMs?: number;
  /** Between two questions whether the host is still there, in milliseconds. Default 2 seconds. */
  keepAliveIntervalMs?: number;
}

/** How a script is run. */
export interface ScriptOptions {
  signal: AbortSignal;
  /** `$1`, `$2` and so on of the script. */
  arguments?: readonly string[];
  /** Of stdout and stderr together. Default 1 MiB. */
  maximumOutputBytes?: number;
}

const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_INTERVAL_MS = 2_000;

/** After so many intervals without a single byte from the host it is taken for dead: 6 to 8 seconds. */
const SILENT_INTERVALS = 3;

/** An sshd allows ten sessions a connection, unless told otherwise: one is for SFTP, one for a session that lingers. */
const SESSIONS = 8;

/** An sshd that refuses a session may be still busy with one that was closed; it is asked again for so long. */
const REFUSED_SESSION_MS = 5_000;
const REFUSED_SESSION_PAUSE_MS = 100;

/** How long a host may take over a goodbye before it is cut off. */
const GOODBYE_MS = 500;

const MAXIMUM_OUTPUT_BYTES = 1024 * 1024;

/** How much of what a host says is repeated in a message. */
const MAXIMUM_LINE_LENGTH = 200;

/** A connection to a host, on which a user is logged in. */
export class SshConnection {
  /** Settles when the connection is over: resolves to why it was lost, or to undefined after {@link close}. */
  readonly closed: Promise<EnvironmentFailedError | undefined>;
  /** What was found of the host's key, in words. */
  readonly hostKeyFinding: string;
  readonly #config: SshConfig;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #slots = new SessionSlots(SESSIONS);
  #silence: NodeJS.Timeout | undefined;
  #sftp: Promise<SFTPWrapper> | undefined;
  /** Why nothing can be done on it any more. */
  #end: EnvironmentFailedError | undefined;
  #tellClosed!: (loss: EnvironmentFailedError | undefined) => void;

  private constructor(config: SshConfig, { client, socket }: Dialled, hostKeyFinding: string) {
    this.#config = config;
    this.#client = client;
    this.#socket = socket;
    this.hostKeyFinding = hostKeyFinding;
    this.closed = new Promise((resolve) => (this.#tellClosed = resolve));
  }

  /**
   * Connects and logs in.
   * @throws {EnvironmentFailedError} environment_unreachable, host_key_rejected, authentication_failed or
   * secret_unavailable; or the reason of the signal
   */
  static async connect(config: SshConfig, options: ConnectOptions): Promise<SshConnection> {
    const { keepAliveIntervalMs = KEEP_ALIVE_INTERVAL_MS, timeoutMs = CONNECT_TIMEOUT_MS, signal } = options;
    signal.throwIfAborted();
    const privateKey = await readPrivateKey(config.privateKey, options.secrets);
    const hostKeyCheck = new HostKeyCheck(config);
    const dialled = await dial(config, { privateKey, hostKeyCheck, signal, timeoutMs, keepAliveIntervalMs });
    const connection = new SshConnection(config, dialled, hostKeyCheck.finding);
    connection.#watch(keepAliveIntervalMs);
    return connection;
  }

  /** False once it was closed or lost. */
  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /**
   * Runs a command line by the user's login shell, as soon as fewer than eight others run. Both outputs of the channel
   * have to be read to their ends, or its place is not given to the next in line. How the command ended is told by the
   * channel's `close(code, signal)`: `exit` may come before anybody listens. When the connection is lost, writing to
   * the channel is never answered: watch {@link closed} meanwhile.
   * @throws {EnvironmentFailedError} environment_unreachable when the connection is lost, driver_failed when the host
   * refuses; or the reason of the signal
   */
  async exec(command: string, { signal }: { signal?: AbortSignal } = {}): Promise<ClientChannel> {
    this.#throwIfOver();
    const giveBack = await this.#slots.take(signal);
    try {
      const channel = await this.#openSession(command, signal);
      channel.once('close', giveBack);
      return channel;
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /**
   * Runs a POSIX shell script, which reaches `sh` over its stdin, so that no login shell parses any of it. Nothing of
   * it runs unless all of it arrived. What a login shell prints by itself is left out of the output.
   * @throws {EnvironmentFailedError} environment_unreachable when the connection is lost, driver_failed when `sh` does
   * not run or prints too much; or the reason of the signal
   */
  async runScript(script: string, options: ScriptOptions): Promise<ScriptResult> {
    const mark = `lessor-${randomUUID()}`;
    const text = wrapScript(script, options.arguments ?? [], mark);
    const channel = await this.exec(SCRIPT_COMMAND, { signal: options.signal });
    // A login shell that refuses to serve may be gone already.
    if (!channel.writableEnded) channel.end(text);
    const output = await readChannel(channel, options.maximumOutputBytes ?? MAXIMUM_OUTPUT_BYTES, options.signal);
    this.#throwIfOver();
    const stdout = betweenMarks(output.stdout, mark);
    const stderr = betweenMarks(output.stderr, mark);
    if (stdout === undefined || stderr === undefined) throw this.#notRun(output);
    return { code: output.code, signal: output.signal, stdout, stderr };
  }

  /**
   * The SFTP session of the connection, opened when it is first asked for.
   * @throws {EnvironmentFailedError} environment_unreachable when the connection is lost, driver_failed when the host
   * has no SFTP
   */
  sftp(): Promise<SFTPWrapper> {
    this.#sftp ??= this.#openSftp();
    return this.#sftp;
  }

  /** Closes the connection, and with it all that runs on it. Does nothing where it is over already. */
  async close(): Promise<void> {
    if (!this.isOpen) return;
    this.#finish(this.#lost('it was closed on this side'), undefined);
    this.#client.end();
    const closed = this.#socket.closed ? Promise.resolve() : once(this.#socket, 'close');
    await Promise.race([closed, sleep(GOODBYE_MS, undefined, { ref: false })]);
    this.#socket.destroy();
  }

  /** Notices the end of the connection, also the one that nobody announces. */
  #watch(intervalMs: number): void {
    const lose = (detail: string) => {
      const loss = this.#lost(detail);
      this.#finish(loss, loss);
      this.#socket.destroy();
    };
    this.#client.on('error', (error) => lose(error.message));
    this.#client.on('end', () => lose('the host closed it'));
    this.#client.on('close', () => lose('it was cut'));
    let bytes = this.#socket.bytesRead;
    let silentIntervals = 0;
    // Counted in looks, not by a clock: a process that was halted itself has not listened meanwhile.
    this.#silence = setInterval(() => {
      silentIntervals = this.#socket.bytesRead === bytes ? silentIntervals + 1 : 0;
      bytes = this.#socket.bytesRead;
      if (silentIntervals >= SILENT_INTERVALS)
        lose(`the host was silent for ${(SILENT_INTERVALS * intervalMs) / 1000} s`);
    }, intervalMs);
    if (this.#socket.destroyed) lose('it was cut');
  }

  #finish(end: EnvironmentFailedError, loss: EnvironmentFailedError | undefined): void {
    if (!this.isOpen) return;
    this.#end = end;
    clearInterval(this.#silence);
    this.#slots.rejectWaiting(end);
    this.#tellClosed(loss);
  }

  async #openSession(command: string, signal: AbortSignal | undefined): Promise<ClientChannel> {
    const deadline = performance.now() + REFUSED_SESSION_MS;
    for (;;) {
      try {
        return await this.#tryToOpenSession(command, signal);
      } catch (error) {
        signal?.throwIfAborted();
        this.#throwIfOver();
        const isRefused = error instanceof Error && 'reason' in error;
        if (!isRefused) throw this.#failed('refuses to run commands; it has to allow them to this user', error);
        if (performance.now() >= deadline) {
          throw this.#failed('refuses to open another session; raise MaxSessions in its sshd_config', error);
        }
      }
      await sleep(REFUSED_SESSION_PAUSE_MS, undefined, signal === undefined ? {} : { signal });
    }
  }

  #tryToOpenSession(command: string, signal: AbortSignal | undefined): Promise<ClientChannel> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal?.reason as Error);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#client.exec(command, (error, channel) => {
        signal?.removeEventListener('abort', onAbort);
        if (error !== undefined) reject(error);
        else if (signal?.aborted === true) abandon(channel);
        else resolve(channel);
      });
    });
  }

  async #openSftp(): Promise<SFTPWrapper> {
    const forget = () => (this.#sftp = undefined);
    try {
      this.#throwIfOver();
      return await new Promise<SFTPWrapper>((resolve, reject) => {
        this.#client.sftp((error, sftp) => {
          if (error !== undefined) return reject(error);
          sftp.on('error', forget);
          sftp.on('close', forget);
          resolve(sftp);
        });
      });
    } catch (error) {
      forget();
      this.#throwIfOver();
      throw this.#failed('has no SFTP; it needs `Subsystem sftp internal-sftp` in its sshd_config', error);
    }
  }

  #throwIfOver(): void {
    if (this.#end !== undefined) throw this.#end;
  }

  #lost(detail: string): EnvironmentFailedError {
    return new EnvironmentFailedError(
      'environment_unreachable',
      `the connection to ${addressOf(this.#config)} is gone: ${detail}`,
    );
  }

  #failed(detail: string, cause: unknown): EnvironmentFailedError {
    return new EnvironmentFailedError('driver_failed', `${addressOf(this.#config)} ${detail}`, { cause });
  }

  #notRun({ code, signal, stdout, stderr }: ChannelOutput): EnvironmentFailedError {
    const said = firstLineOf(stderr) ?? firstLineOf(stdout) ?? 'nothing';
    const ended = signal === null ? `exit code ${code ?? 'unknown'}` : `signal ${signal}`;
    return this.#failed(
      `does not run \`sh\` for ${JSON.stringify(this.#config.username)} (${ended}, and it said: ${said}); ` +
        'the user needs a login shell, and sh on the PATH',
      undefined,
    );
  }
}

/** Closes a channel that nobody waits for any more. */
function abandon(channel: ClientChannel): void {
  channel.resume();
  channel.stderr.resume();
  channel.close();
}

function firstLineOf(output: Buffer): string | undefined {
  const line = output.toString('utf8').trim().split('\n')[0]?.trim().slice(0, MAXIMUM_LINE_LENGTH);
  return line === '' ? undefined : line;
}
