import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { sshConfigSchema } from '../../src/ssh/config.ts';
import { SshConnection } from '../../src/ssh/connection.ts';
import { failureOf } from './failures.ts';
import { noAbort } from '../support/ssh-host.ts';
import { newKeyPair } from './keys.ts';
import { isInstalled, pathOf } from './programs.ts';
import { executeByShell, startScriptedServer } from './scripted-server.ts';

/** A connection to a server whose user has another login shell. */
async function connectToShell(shell: string): Promise<SshConnection> {
  const config = sshConfigSchema.parse({
    host: '127.0.0.1',
    port: await startScriptedServer(executeByShell(shell)),
    username: 'anybody',
    privateKey: 'env:KEY',
    remoteWorkspacePath: '/work',
    strictHostKeyChecking: false,
  });
  const secrets = createSecretResolver({ env: { KEY: newKeyPair().private }, secretKey: undefined });
  const connection = await SshConnection.connect(config, { secrets, signal: noAbort() });
  onTestFinished(() => connection.close());
  return connection;
}

/** A login shell that is a script. */
async function writeShell(script: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-shell-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const path = join(directory, 'shell');
  await writeFile(path, `#!/bin/sh\n${script}\n`);
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

  test('that prints before and after a script, on both outputs, adds nothing to its output', async () => {
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
    ['rejects the login', "echo 'This account is currently not available.'; exit 1", 'not available'],
    ['runs another program', 'echo "only backups here" >&2; cat >/dev/null; exit 0', 'only backups'],
    ['exits immediately without output', 'exit 7', 'exit code 7'],
    ['echoes its input', 'tee /dev/stderr', 'does not run `sh`'],
  ])('that %s is reported with what it said', async (_case, shell, said) => {
    const connection = await connectToShell(await writeShell(shell));
    const { message } = await failureOf(connection.runScript(script, { signal: noAbort() }), 'driver_failed');
    expect(message).toContain('does not run `sh`');
    expect(message).toContain(said);
  });
});
