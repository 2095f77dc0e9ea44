/**
 * Throwaway SSH servers on loopback, for demonstrations and tests: OpenSSH's sshd where it is installed, and one in this
 * process where it is not.
 *
 * @module
 */
import { access, constants } from 'node:fs/promises';
import { resolve } from 'node:path';
import { BuiltinServer } from './builtin-server.ts';
import type { ConnectionServer } from './connection-server.ts';
import { SshServerError } from './errors.ts';
import { generateKeyPair, writePrivateKey } from './keys.ts';
import { readLoginAccount } from './login-account.ts';
import { findSshd } from './sshd-program.ts';
import { SshdServer } from './sshd-server.ts';
import { ThrowawaySshServer, type SshServer, type SshServerKind } from './throwaway-ssh-server.ts';

export { SshServerError } from './errors.ts';
export type { SshServer, SshServerKind } from './throwaway-ssh-server.ts';

export interface SshServerOptions {
  /** Left out: `sshd` where it is installed, else `builtin`. */
  readonly kind?: SshServerKind;
  /** Where keys and configuration are written; the caller makes and removes it. */
  readonly directory: string;
}

/**
 * Starts an SSH server on a free port of 127.0.0.1 that lets in the user of this process, by one key made for it. It
 * ends with this process, even when that is killed, and keeps it alive until it is closed.
 *
 * @throws {@link SshServerError} when it cannot be had; its `code` and message say why.
 */
export async function openSshServer(options: SshServerOptions): Promise<SshServer> {
  const directory = resolve(options.directory);
  await requireDirectory(directory);
  const account = readLoginAccount(process.env);
  const sshd = options.kind === 'builtin' ? undefined : await findSshd(process.env['PATH'] ?? '');
  if (options.kind === 'sshd' && sshd === undefined) {
    throw new SshServerError(
      'sshd_missing',
      'OpenSSH\'s sshd is neither on PATH nor in /usr/sbin. Install it, or ask for the kind "builtin".',
    );
  }
  const clientKey = generateKeyPair();
  const privateKeyPath = await writePrivateKey(directory, 'client_key', clientKey);
  const connectionServer: ConnectionServer =
    sshd === undefined
      ? await BuiltinServer.open({ account, clientKey })
      : await SshdServer.open({ program: sshd, directory, account, clientKey });
  const server = new ThrowawaySshServer({
    kind: sshd === undefined ? 'builtin' : 'sshd',
    username: account.username,
    privateKeyPath,
    clientKey,
    connectionServer,
  });
  return server.open();
}

async function requireDirectory(path: string): Promise<void> {
  try {
    await access(`${path}/.`, constants.W_OK | constants.X_OK);
  } catch (error) {
    const message = `The SSH server cannot write its keys into ${path}. Make that directory first, as the user who runs this.`;
    throw new SshServerError('directory_unusable', message, { cause: error });
  }
}
