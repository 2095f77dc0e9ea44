import { once } from 'node:events';
import ssh2, { type ClientChannel } from 'ssh2';
import { SshServerError } from './errors.ts';
import type { KeyPair } from './keys.ts';

const LOGIN_DEADLINE_MS = 20_000;

interface Login {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  readonly clientKey: KeyPair;
}

/**
 * Logs in and runs a command, since a server that accepts connections may still refuse the account: one that is locked,
 * say, or has no shell.
 *
 * @throws {@link SshServerError} when that does not work.
 */
export async function checkLogin({ host, port, username, clientKey }: Login, lastWords: () => string): Promise<void> {
  const client = new ssh2.Client();
  const failed = new AbortController();
  client.on('error', (error) => failed.abort(error));
  client.on('close', () => failed.abort(new Error('it closed the connection')));
  const signal = AbortSignal.any([failed.signal, AbortSignal.timeout(LOGIN_DEADLINE_MS)]);
  try {
    const ready = once(client, 'ready', { signal });
    client.connect({ host, port, username, privateKey: clientKey.private, readyTimeout: LOGIN_DEADLINE_MS });
    await ready;
    const channel = await new Promise<ClientChannel>((resolve, reject) => {
      client.exec('exit 0', (error, opened) => (error ? reject(error) : resolve(opened)));
    });
    channel.resume();
    // Not 'exit', which may have been emitted while the channel was on its way to here.
    const [code] = (await once(channel, 'close', { signal })) as [number | null | undefined];
    if (code !== 0) throw new Error(`the login shell ended a command with ${code}`);
  } catch (error) {
    const cause: unknown = signal.aborted ? signal.reason : error;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `The SSH server on ${host}:${port} does not let ${username} in: ${reason}. Its last words:\n${lastWords()}`;
    throw new SshServerError('login_failed', message, { cause });
  } finally {
    client.end();
  }
}
