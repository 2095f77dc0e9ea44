import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { BuiltinServer } from '../../src/embedded/ssh-server/builtin-server.ts';
import { generateKeyPair, writePrivateKey } from '../../src/embedded/ssh-server/keys.ts';
import { readLoginAccount } from '../../src/embedded/ssh-server/login-account.ts';
import { ThrowawaySshServer } from '../../src/embedded/ssh-server/throwaway-ssh-server.ts';
import { SshConnection } from '../../src/ssh/connection.ts';
import { failureOf } from './failures.ts';
import { TestHost, noAbort, secrets } from './hosts.ts';
import { isInstalled, pathOf } from './programs.ts';

/** A connection to a server whose user has another login shell. */
async function connectToShell(shell: string): Promise<SshConnection> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-shell-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const account = { ...readLoginAccount(process.env), shell };
  const clientKey = generateKeyPair();
  const privateKeyPath = await writePrivateKey(directory, 'key', clientKey);
  const connectionServer = await BuiltinServer.open({ account, clientKey });
  const { username } = account;
  const server = new ThrowawaySshServer({ kind: 'builtin', username, privateKeyPath, clientKey, connectionServer });
  onTestFinished(() => server.close());
  await server.open();
  const config = new TestHost(server, directory).config();
  const connection = await SshConnection.connect(config, { secrets, signal: noAbort() });
  onTestFinished(() => connection.close());
  return connection;
}

/** A login shell that is a script; what tries whether it can log in at all is let through. */
async function writeShell(script: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-shell-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const path = join(directory, 'shell');
  await writeFile(path, `#!/bin/sh\n[ "$2" != 'exit 0' ] || exit 0\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

const installedShells = ['sh', 'bash', 'zsh', 'fish', 'tcsh'].filter((name) => isInstalled(name));

const script = `echo "out $1"; echo err >&2; exit 3`;
const expected = { code: 3, signal: null, stdout: "out it's\n", stderr: 'err\n' };

describe('a login shell', () => {
  test.each(installedShells)('that is %s runs scripts', async (name) => {
    const connection = await connectToShell(pathOf(name)!);
    expect(await connection.runScript(script, { signal: noAbort(), arguments: ["it's"] })).toEqual(expected);
  });

  test('that prints before and after, on both outputs, adds nothing to what a script prints', async () => {
    const noisy = await writeShell(`
      printf 'Welcome!\\nno line break at the end'; echo 'news' >&2
      /bin/sh "$@"; code=$?
      printf 'Good-bye!'; echo 'more news' >&2
      exit $code`);
    const connection = await connectToShell(noisy);
    expect(await connection.runScript(script, { signal: noAbort(), arguments: ["it's"] })).toEqual(expected);
    const silent = await connection.runScript(':', { signal: noAbort() });
    expect(silent).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
  });

  test.each([
    ['refuses to serve', "echo 'This account is currently not available.'; exit 1", 'not available'],
    ['runs another program', 'echo "only backups here" >&2; cat >/dev/null; exit 0', 'only backups'],
    ['ends at once without a word', 'exit 7', 'exit code 7'],
    ['echoes what it is given', 'tee /dev/stderr', 'does not run `sh`'],
  ])('that %s is reported with what it said', async (_case, shell, said) => {
    const connection = await connectToShell(await writeShell(shell));
    const { message } = await failureOf(connection.runScript(script, { signal: noAbort() }), 'driver_failed');
    expect(message).toContain('does not run `sh`');
    expect(message).toContain(said);
  });
});
