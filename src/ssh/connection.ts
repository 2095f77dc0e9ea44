import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Client, ClientChannel, SFTPWrapper } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { raceAbort } from '../lib/abort.ts';
import { acquirePermit } from '../lib/concurrency.ts';
import type { SecretResolver } from '../secrets/resolver.ts';
import { addressOf } from './config.ts';
import type { SshConfig } from './config.ts';
import { dial, readPrivateKey } from './dial.ts';
import type { AuthenticatedClient } from './dial.ts';
import { HostKeyVerifier } from './host-key-verifier.ts';
import { SCRIPT_COMMAND, betweenMarkers, frameScript, readChannel } from './script.ts';
import type { ChannelOutput, ScriptResult } from './script.ts';

/** How a connection is opened. */
export interface ConnectOptions {
  secrets: SecretResolver;
  /** Aborts the attempt; an open connection is not affected. */
  signal: AbortSignal;
  /** Limit for reaching the host and logging in, in milliseconds. Default 10 seconds. */
  timeoutMs?: number;
  /** Interval of keepalive requests, in milliseconds. Default 2 seconds. */
  keepAliveIntervalMs?: number;
  /** Limit for the host to open a session or its SFTP, in milliseconds. Default 20 seconds. */
  sessionTimeoutMs?: number;
}

/** How a script is run. */
export interface ScriptOptions {
  signal: AbortSignal;
  /** `$1`, `$2` and so on of the script. */
  arguments?: readonly string[];
  /** Limit of stdout and stderr together. Default 1 MiB. */
  maximumOutputBytes?: number;
}

const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_INTERVAL_MS = 2_000;

/** A host under load forks a session within a few seconds. One that takes longer never answers. */
const SESSION_TIMEOUT_MS = 20_000;

/** A host that sends no byte for so many intervals is considered dead: after 6 to 8 seconds. */
const MAX_SILENT_INTERVALS = 3;

/** OpenSSH's MaxSessions is 10 by default: one is for SFTP, one for a closed session that sshd still counts. */
const MAX_CONCURRENT_SESSIONS = 8;

/** A rejected session is retried for so long, since sshd can still be closing an earlier one. */
const SESSION_RETRY_TIMEOUT_MS = 5_000;
const SESSION_RETRY_DELAY_MS = 100;

/** Limit for a graceful close; then the socket is destroyed. */
const CLOSE_TIMEOUT_MS = 500;

const MAXIMUM_OUTPUT_BYTES = 1024 * 1024;

/** How much of a host's output a message repeats. */
const MAXIMUM_LINE_LENGTH = 200;

/** A connection to a host with a logged-in user. */
export class SshConnection {
  /** Resolves when the connection ends: to the reason it was lost, or to undefined after {@link close}. */
  readonly closed: Promise<EnvironmentFailedError | undefined>;
  /** The host's key and how it was verified, for people. */
  readonly hostKeySummary: string;
  readonly #config: SshConfig;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #sessions = pLimit({ concurrency: MAX_CONCURRENT_SESSIONS, rejectOnClear: true });
  readonly #sessionTimeoutMs: number;
  /** Rejects the requests for sessions that the host has not answered. */
  readonly #unanswered = new Set<(error: Error) => void>();
  #silenceTimer: NodeJS.Timeout | undefined;
  #sftp: Promise<SFTPWrapper> | undefined;
  /** Why the connection can no longer be used. */
  #endReason: EnvironmentFailedError | undefined;
  #resolveClosed!: (loss: EnvironmentFailedError | undefined) => void;

  private constructor(
    config: SshConfig,
    { client, socket }: AuthenticatedClient,
    { hostKeySummary, sessionTimeoutMs }: { hostKeySummary: string; sessionTimeoutMs: number },
  ) {
    this.#config = config;
    this.#client = client;
    this.#socket = socket;
    this.hostKeySummary = hostKeySummary;
    this.#sessionTimeoutMs = sessionTimeoutMs;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
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
    const hostKey = new HostKeyVerifier(config);
    const authenticated = await dial(config, { privateKey, hostKey, signal, timeoutMs, keepAliveIntervalMs });
    const { sessionTimeoutMs = SESSION_TIMEOUT_MS } = options;
    const connection = new SshConnection(config, authenticated, { hostKeySummary: hostKey.summary, sessionTimeoutMs });
    connection.#watch(keepAliveIntervalMs);
    return connection;
  }

  /** False once it was closed or lost. */
  get isOpen(): boolean {
    return this.#endReason === undefined;
  }

  /**
   * Runs a command line in the user's login shell, as soon as fewer than eight others run. Both outputs of the channel
   * must be read to their ends, or its session stays occupied. The channel's `close(code, signal)` reports how the
   * command ended: `exit` can precede the first listener. When the connection is lost, a write to the channel never
   * completes: watch {@link closed} meanwhile.
   * @throws {EnvironmentFailedError} environment_unreachable when the connection is lost, driver_failed when the host
   * rejects the session; or the reason of the signal
   */
  async exec(command: string, { signal }: { signal?: AbortSignal } = {}): Promise<ClientChannel> {
    this.#throwIfEnded();
    const release = await acquirePermit(this.#sessions, signal).catch((error: unknown) => {
      this.#throwIfEnded();
      throw error;
    });
    try {
      const channel = await this.#openSession(command, signal);
      channel.once('close', release);
      return channel;
    } catch (error) {
      release();
      throw error;
    }
  }

  /**
   * Runs a POSIX shell script. `sh` reads it from stdin, so that no login shell parses any of it, and nothing of it runs
   * before all of it has arrived. What a login shell prints on its own is not part of the output.
   * @throws {EnvironmentFailedError} environment_unreachable when the connection is lost, driver_failed when `sh` does
   * not run or prints too much; or the reason of the signal
   */
  async runScript(script: string, options: ScriptOptions): Promise<ScriptResult> {
    const marker = `lessor-${randomUUID()}`;
    const input = await frameScript(script, options.arguments ?? [], marker);
    const channel = await this.exec(SCRIPT_COMMAND, { signal: options.signal });
    // A login shell that serves nobody can have exited already.
    if (!channel.writableEnded) channel.end(input);
    const output = await readChannel(channel, options.maximumOutputBytes ?? MAXIMUM_OUTPUT_BYTES, options.signal);
    this.#throwIfEnded();
    const stdout = betweenMarkers(output.stdout, marker);
    const stderr = betweenMarkers(output.stderr, marker);
    if (stdout === undefined || stderr === undefined) throw this.#scriptNotRun(output);
    return { code: output.code, signal: output.signal, stdout, stderr };
  }

  /**
   * The SFTP session of the connection, opened on first use.
   * @throws {EnvironmentFailedError} environment_unreachable when the connection is lost, driver_failed when the host
   * has no SFTP, or one that does not answer; or the reason of the signal
   */
  sftp(signal: AbortSignal): Promise<SFTPWrapper> {
    this.#sftp ??= this.#openSftp();
    return raceAbort(this.#sftp, signal);
  }

  /** Closes the connection and everything that runs on it. Does nothing when it has ended already. */
  async close(): Promise<void> {
    if (!this.isOpen) return;
    this.#finish(this.#lost('it was closed on this side'), undefined);
    this.#client.end();
    const closed = this.#socket.closed ? Promise.resolve() : once(this.#socket, 'close');
    await Promise.race([closed, sleep(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
    this.#socket.destroy();
  }

  /** Detects the end of the connection, silent ones included. */
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
    // Counts ticks instead of reading a clock: a process that was itself stopped has not listened meanwhile.
    this.#silenceTimer = setInterval(() => {
      silentIntervals = this.#socket.bytesRead === bytes ? silentIntervals + 1 : 0;
      bytes = this.#socket.bytesRead;
      if (silentIntervals >= MAX_SILENT_INTERVALS)
        lose(`the host was silent for ${(MAX_SILENT_INTERVALS * intervalMs) / 1000} s`);
    }, intervalMs);
    if (this.#socket.destroyed) lose('it was cut');
  }

  #finish(reason: EnvironmentFailedError, loss: EnvironmentFailedError | undefined): void {
    if (!this.isOpen) return;
    this.#endReason = reason;
    clearInterval(this.#silenceTimer);
    this.#sessions.clearQueue();
    for (const reject of this.#unanswered) reject(reason);
    this.#resolveClosed(loss);
  }

  async #openSession(command: string, signal: AbortSignal | undefined): Promise<ClientChannel> {
    const deadline = performance.now() + SESSION_RETRY_TIMEOUT_MS;
    for (;;) {
      try {
        return await this.#tryToOpenSession(command, signal);
      } catch (error) {
        signal?.throwIfAborted();
        this.#throwIfEnded();
        if (error instanceof EnvironmentFailedError) throw error;
        const isSessionLimit = error instanceof Error && 'reason' in error;
        if (!isSessionLimit) throw this.#failed('runs no commands; it has to allow them to this user', error);
        if (performance.now() >= deadline) {
          throw this.#failed('opens no more sessions; raise MaxSessions in its sshd_config', error);
        }
      }
      await sleep(SESSION_RETRY_DELAY_MS, undefined, signal === undefined ? {} : { signal });
    }
  }

  #tryToOpenSession(command: string, signal: AbortSignal | undefined): Promise<ClientChannel> {
    return this.#request<ClientChannel>((done) => void this.#client.exec(command, done), {
      what: 'a command',
      discard: abandon,
      signal,
    });
  }

  /** Waits for the host's answer to a request for a session. One that comes too late is discarded. */
  #request<Answer>(
    send: (done: (error: Error | undefined, answer: Answer) => void) => void,
    { what, discard, signal }: { what: string; discard: (late: Answer) => void; signal?: AbortSignal | undefined },
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let isSettled = false;
      const settle = (outcome: () => void) => {
        if (isSettled) return;
        isSettled = true;
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#unanswered.delete(fail);
        outcome();
      };
      const fail = (error: Error) => settle(() => reject(error));
      const onAbort = () => fail(signal?.reason as Error);
      const timer = setTimeout(
        () => fail(this.#failed(`opens no session for ${what}: no answer within ${this.#sessionTimeoutMs / 1_000} s`)),
        this.#sessionTimeoutMs,
      );
      this.#unanswered.add(fail);
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        send((error, answer) => {
          if (error !== undefined) fail(error);
          else if (isSettled) discard(answer);
          else settle(() => resolve(answer));
        });
      } catch (error) {
        fail(error as Error);
      }
    });
  }

  async #openSftp(): Promise<SFTPWrapper> {
    const forget = () => (this.#sftp = undefined);
    try {
      this.#throwIfEnded();
      const sftp = await this.#request<SFTPWrapper>((done) => void this.#client.sftp(done), {
        what: 'SFTP',
        discard: (late) => late.end(),
      });
      sftp.on('error', forget);
      sftp.on('close', forget);
      return sftp;
    } catch (error) {
      forget();
      this.#throwIfEnded();
      if (error instanceof EnvironmentFailedError) throw error;
      throw this.#failed('has no SFTP; it needs `Subsystem sftp internal-sftp` in its sshd_config', error);
    }
  }

  #throwIfEnded(): void {
    if (this.#endReason !== undefined) throw this.#endReason;
  }

  #lost(detail: string): EnvironmentFailedError {
    return new EnvironmentFailedError(
      'environment_unreachable',
      `the connection to ${addressOf(this.#config)} is gone: ${detail}`,
    );
  }

  #failed(detail: string, cause?: unknown): EnvironmentFailedError {
    return new EnvironmentFailedError('driver_failed', `${addressOf(this.#config)} ${detail}`, { cause });
  }

  #scriptNotRun({ code, signal, stdout, stderr }: ChannelOutput): EnvironmentFailedError {
    const printed = firstLineOf(stderr) ?? firstLineOf(stdout) ?? 'nothing';
    const ended = signal === null ? `exit code ${code ?? 'unknown'}` : `signal ${signal}`;
    return this.#failed(
      `does not run \`sh\` for ${JSON.stringify(this.#config.username)} (${ended}, and it printed: ${printed}); ` +
        'the user needs a login shell, and sh on the PATH',
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
