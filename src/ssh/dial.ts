import { connect } from 'node:net';
import type { Socket } from 'node:net';
import ssh2 from 'ssh2';
import type { Client, ParsedKey, PublicKeyAuthMethod } from 'ssh2';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { describeReference } from '../secrets/reference.ts';
import type { SecretReference } from '../secrets/reference.ts';
import type { SecretResolver } from '../secrets/resolver.ts';
import { addressOf } from './config.ts';
import type { SshConfig } from './config.ts';
import type { HostKeyVerifier } from './host-key-verifier.ts';
import { fingerprintOf } from './known-hosts.ts';

/** How a host is dialed. */
export interface DialOptions {
  privateKey: ParsedKey;
  hostKey: HostKeyVerifier;
  signal: AbortSignal;
  /** Limit until the user is logged in, in milliseconds. */
  timeoutMs: number;
  /** Interval of keepalive requests, in milliseconds. */
  keepAliveIntervalMs: number;
}

/** A connection with a logged-in user. */
export interface AuthenticatedClient {
  client: Client;
  socket: Socket;
}

/** The step that a connection attempt is at. */
type Stage = 'connect' | 'handshake' | 'authenticate';

/** An error of ssh2, which says where it comes from. */
type ClientError = Error & { level?: string; code?: unknown };

/**
 * Gets and parses the private key that a config refers to.
 * @throws {EnvironmentFailedError} `secret_unavailable`, without any of what stands in place of a key
 */
export async function readPrivateKey(reference: SecretReference, secrets: SecretResolver): Promise<ParsedKey> {
  const text = await secrets.resolve(reference);
  const key = ssh2.utils.parseKey(text);
  if (!(key instanceof Error) && key.isPrivateKey()) return key;
  // The parser's messages can repeat parts of its input, so none is passed on.
  const isEncrypted = key instanceof Error && /encrypted|passphrase/i.test(key.message);
  const detail = isEncrypted
    ? 'is protected by a passphrase, which nobody is there to type in; `ssh-keygen -p` removes it'
    : 'is not a private key in the format of OpenSSH, PEM or PuTTY';
  throw new EnvironmentFailedError('secret_unavailable', `what ${describeReference(reference)} holds ${detail}`);
}

/**
 * Connects to a host and logs in.
 * @throws {EnvironmentFailedError} environment_unreachable, host_key_rejected or authentication_failed; or the reason of the signal
 */
export function dial(config: SshConfig, options: DialOptions): Promise<AuthenticatedClient> {
  const { signal, timeoutMs, hostKey } = options;
  return new Promise((resolve, reject) => {
    let stage: Stage = 'connect';
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

    client.on('connect', () => (stage = 'handshake'));
    client.on('handshake', () => (stage = 'authenticate'));
    client.on('ready', () => settle(() => resolve({ client, socket })));
    // Never removed: an error can come at any time, and an unhandled one would end the process.
    client.on('error', (error: ClientError) => fail(hostKey.rejection ?? failureOf(error, config, stage, options)));
    client.on('close', () => fail(unreachable(config, stage, 'the connection was closed')));
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    const login: PublicKeyAuthMethod = { type: 'publickey', username: config.username, key: options.privateKey };
    client.connect({
      sock: socket,
      username: config.username,
      authHandler: [login],
      hostVerifier: (key: Buffer) => hostKey.accepts(key),
      algorithms: { serverHostKey: hostKey.algorithms },
      // `timeoutMs` covers the whole attempt.
      readyTimeout: 0,
      keepaliveInterval: options.keepAliveIntervalMs,
      // SshConnection judges silence by every byte that arrives, not by answers to keepalives alone.
      keepaliveCountMax: Number.POSITIVE_INFINITY,
    });
  });
}

function failureOf(error: ClientError, config: SshConfig, stage: Stage, options: DialOptions): EnvironmentFailedError {
  const isRejected = error.level === 'client-authentication' || /authentication failures/i.test(error.message);
  if (stage === 'authenticate' && isRejected) return loginRejected(config, options.privateKey, error);
  return unreachable(config, stage, explain(error), error);
}

function loginRejected(config: SshConfig, key: ParsedKey, cause: Error): EnvironmentFailedError {
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
    connect: 'check host and port, that the host is up, and that no firewall is between',
    handshake: 'check that it is an SSH server that listens on this port, and that it is not overloaded',
    authenticate: "look into the SSH server's log on the host",
  }[stage];
  const state = {
    connect: 'cannot be reached',
    handshake: 'accepts connections, but does not agree on SSH',
    authenticate: 'does not complete the login',
  }[stage];
  const message = `${addressOf(config)} ${state}: ${detail}; ${advice}`;
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
      return 'there is no route to the host';
    default:
      // The error of several addresses has its reasons only in its list.
      return error instanceof AggregateError ? error.errors.map(String).join('; ') : error.message;
  }
}
