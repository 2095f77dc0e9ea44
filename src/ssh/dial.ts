import { connect } from 'node:net';
import type { Socket } from 'node:net';
import ssh2 from 'ssh2';
import type { Client, ParsedKey, PublicKeyAuthMethod } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { describeReference } from '../secrets/reference.ts';
import { addressOf } from './address.ts';
import type { SshConfig } from './config.ts';
import type { HostKeyCheck } from './host-key-check.ts';
import { fingerprintOf } from './known-hosts.ts';

/** What a connection is made with. */
export interface DialOptions {
  privateKey: ParsedKey;
  hostKeyCheck: HostKeyCheck;
  signal: AbortSignal;
  /** Until the host has let the user in, in milliseconds. */
  timeoutMs: number;
  /** Between two questions whether the host is still there, in milliseconds. */
  keepAliveIntervalMs: number;
}

/** A connection on which the user is logged in. */
export interface Dialled {
  client: Client;
  socket: Socket;
}

/** How far a connection is. */
type Stage = 'reach' | 'negotiate' | 'log in';

/** What ssh2 says where an error comes from. */
type ClientError = Error & { level?: string; code?: unknown };

/**
 * Connects to a host and logs in.
 * @throws {EnvironmentFailedError} environment_unreachable, host_key_rejected or authentication_failed; or the reason of the signal
 */
export function dial(config: SshConfig, options: DialOptions): Promise<Dialled> {
  const { signal, timeoutMs, hostKeyCheck } = options;
  return new Promise((resolve, reject) => {
    let stage: Stage = 'reach';
    const client = new ssh2.Client();
    const socket = connect({ host: config.host, port: config.port, noDelay: true });
    const settle = (outcome: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      outcome();
    };
    const fail = (error: Error) => {
      settle(() => reject(error));
      socket.destroy();
    };
    const onAbort = () => fail(signal.reason as Error);
    const timer = setTimeout(() => fail(timedOut(config, stage, timeoutMs)), timeoutMs);

    client.on('connect', () => (stage = 'negotiate'));
    client.on('handshake', () => (stage = 'log in'));
    client.on('ready', () => settle(() => resolve({ client, socket })));
    // Stays, as errors may come at any time and each would otherwise end the process.
    client.on('error', (error: ClientError) =>
      fail(hostKeyCheck.rejection ?? failureOf(error, config, stage, options)),
    );
    client.on('close', () => fail(unreachable(config, stage, 'the connection was closed')));
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    const login: PublicKeyAuthMethod = { type: 'publickey', username: config.username, key: options.privateKey };
    client.connect({
      sock: socket,
      username: config.username,
      authHandler: [login],
      hostVerifier: (key: Buffer) => hostKeyCheck.accepts(key),
      algorithms: { serverHostKey: hostKeyCheck.algorithms },
      // The time limit above covers it all.
      readyTimeout: 0,
      keepaliveInterval: options.keepAliveIntervalMs,
      // Whether the host is silent is judged by all that arrives, not by its answers to these alone.
      keepaliveCountMax: Number.POSITIVE_INFINITY,
    });
  });
}

function failureOf(error: ClientError, config: SshConfig, stage: Stage, options: DialOptions): EnvironmentFailedError {
  const isRefused = error.level === 'client-authentication' || /authentication failures/i.test(error.message);
  if (stage === 'log in' && isRefused) return refusedLogin(config, options.privateKey, error);
  return unreachable(config, stage, explain(error), error);
}

function refusedLogin(config: SshConfig, key: ParsedKey, cause: Error): EnvironmentFailedError {
  const name = `${key.type} ${fingerprintOf(key.getPublicSSH())}`;
  return new EnvironmentFailedError(
    'authentication_failed',
    `${addressOf(config)} does not let ${JSON.stringify(config.username)} in with the key from ` +
      `${describeReference(config.privateKey)} (${name}); add its public key to authorized_keys of that user`,
    { cause },
  );
}

function timedOut(config: SshConfig, stage: Stage, timeoutMs: number): EnvironmentFailedError {
  return unreachable(config, stage, `no answer within ${timeoutMs / 1000} s`);
}

function unreachable(config: SshConfig, stage: Stage, detail: string, cause?: Error): EnvironmentFailedError {
  const advice = {
    reach: 'check host and port, that the host is up, and that no firewall is between',
    negotiate: 'check that it is an SSH server that listens on this port, and that it is not overloaded',
    'log in': "look into the SSH server's log on the host",
  }[stage];
  const done = {
    reach: 'cannot be reached',
    negotiate: 'accepts connections, but does not agree on SSH',
    'log in': 'does not complete the login',
  }[stage];
  const message = `${addressOf(config)} ${done}: ${detail}; ${advice}`;
  return new EnvironmentFailedError('environment_unreachable', message, { cause });
}

function explain(error: ClientError): string {
  switch (error.code) {
    case 'ECONNREFUSED':
      return 'nobody listens there';
    case 'ENOTFOUND':
      return 'there is no host of this name';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'there is no way to the host';
    default:
      // An error for several addresses has its reasons in a list only.
      return error instanceof AggregateError ? error.errors.map(String).join('; ') : error.message;
  }
}
