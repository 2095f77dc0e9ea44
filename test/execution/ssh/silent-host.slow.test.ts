import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { probeSsh } from '../../../src/environments/drivers/ssh-probe.ts';
import { createSecretResolver } from '../../../src/secrets/resolver.ts';
import { sshConfigSchema } from '../../../src/ssh/config.ts';
import { SshConnection } from '../../../src/ssh/connection.ts';
import { newKeyPair } from '../../ssh/keys.ts';
import { describeOnSshd, noAbort, openSshHost, secrets } from '../../support/ssh-host.ts';
import { startScriptedServer } from '../../ssh/scripted-server.ts';
import { makeDirectory } from '../directories.ts';
import { Collector, open, placeLease } from './execution-fixture.ts';

/** OpenSSH's own, on Debian. */
const SFTP_SERVER = '/usr/lib/openssh/sftp-server';

const LIMIT = { sessionTimeoutMs: 300 };

describeOnSshd('a host whose SFTP never answers', () => {
  test('ends the opening of an execution by the signal of the run', async () => {
    const host = await openSshHost();
    await host.silenceSftp();
    const lease = await placeLease(host);
    await expect(open(lease, { signal: abortIn(500) })).rejects.toThrow('the run is over');
  });

  test('ends the wait for SFTP by a limit, and says so', async () => {
    const host = await openSshHost();
    await host.silenceSftp();
    const connection = await SshConnection.connect(host.parsedConfig(), { secrets, signal: noAbort(), ...LIMIT });
    await expect(connection.sftp(noAbort())).rejects.toMatchObject({
      code: 'driver_failed',
      message: expect.stringContaining('opens no session for SFTP: no answer within 0.3 s') as unknown,
    });
    await connection.close();
  });

  test('ends a probe by its signal, and the probe says how far it came', async () => {
    const host = await openSshHost();
    await host.silenceSftp();
    const config = host.parsedConfig({ remoteWorkspacePath: await host.newWorkspace() });
    const { checks } = await probeSsh(config, { secrets, signal: abortIn(1_500) });
    expect(checks.at(-1)).toEqual({ name: 'file transfer', ok: false, detail: 'the run is over' });
  });
});

describeOnSshd('a host whose SFTP stops answering', () => {
  test('ends an upload by the signal of the run', async () => {
    const { execution, stop } = await openWithSftpThatStops();
    await stop();
    await expect(execution.prepareWorkspace()).rejects.toThrow('the run is over');
    await execution.close();
  });

  test('ends the start of a command by the signal of the run', async () => {
    const { execution, stop } = await openWithSftpThatStops();
    await execution.prepareWorkspace();
    await stop();
    const streams = { stdout: new Collector(), stderr: new Collector() };
    const command = { argv: ['true'], env: {}, killAfterMs: 100, ...streams } as const;
    await expect(execution.execute(command)).rejects.toThrow('the run is over');
    await execution.close();
  });

  test('ends a download by its signal', async () => {
    const { execution, stop } = await openWithSftpThatStops();
    await execution.prepareWorkspace();
    await stop();
    await expect(execution.restoreWorkspace({ signal: abortIn(500) })).rejects.toThrow('the run is over');
    await execution.close();
  });
});

test('a host that never opens a session ends the wait for it by a limit, and by a signal', async () => {
  const port = await startScriptedServer(undefined, { isSilent: true });
  const config = sshConfigSchema.parse({
    host: '127.0.0.1',
    port,
    username: 'somebody',
    remoteWorkspacePath: '/work',
    privateKey: 'env:KEY',
    strictHostKeyChecking: false,
  });
  const keys = createSecretResolver({ env: { KEY: newKeyPair().private }, secretKey: undefined });
  const connection = await SshConnection.connect(config, { secrets: keys, signal: noAbort(), ...LIMIT });
  await expect(connection.exec('true')).rejects.toThrow('opens no session for a command: no answer within 0.3 s');
  await expect(connection.runScript('true', { signal: abortIn(50) })).rejects.toThrow('the run is over');
  const abandoned = connection.exec('true');
  await Promise.all([expect(abandoned).rejects.toThrow('it was closed on this side'), connection.close()]);
});

function abortIn(milliseconds: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error('the run is over')), milliseconds);
  return controller.signal;
}

/** An execution with a workspace to upload; `stop` stops the SFTP server of the host, and the run is over soon after. */
async function openWithSftpThatStops() {
  const host = await openSshHost();
  const server = join(host.directory, 'sftp-server');
  await writeFile(server, `#!/bin/sh\necho $$ >'${server}.pid'\nexec ${SFTP_SERVER}\n`, { mode: 0o755 });
  await host.reconfigure((config) => config.replace('sftp internal-sftp', `sftp ${server}`));
  const workspaceDirectory = await makeDirectory();
  await writeFile(join(workspaceDirectory, 'file'), 'content');
  const over = new AbortController();
  const execution = await open(await placeLease(host), { workspaceDirectory, signal: over.signal });
  return {
    execution,
    stop: async () => {
      process.kill(Number(await readFile(`${server}.pid`, 'utf8')), 'SIGSTOP');
      setTimeout(() => over.abort(new Error('the run is over')), 500);
    },
  };
}
