import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { expect, onTestFinished, test } from 'vitest';
import { sshConfigSchema } from '../../src/ssh/config.ts';
import { SshConnection } from '../../src/ssh/connection.ts';
import { listenOnLoopback } from '../support/listen-on-loopback.ts';
import { noAbort, secrets } from '../support/ssh-host.ts';
import { newKeyPair } from './keys.ts';

const keyPairs = {
  'ssh-ed25519': newKeyPair(),
  'ecdsa-sha2-nistp256': newKeyPair('ecdsa-256'),
  'ecdsa-sha2-nistp521': newKeyPair('ecdsa-521'),
  'ssh-rsa': newKeyPair('rsa'),
};

/** A server with host keys of all types, that accepts every login. */
async function startServer(): Promise<number> {
  const hostKeys = Object.values(keyPairs).map((pair) => pair.private);
  const server = new ssh2.Server({ hostKeys }, (client) => {
    client.on('error', () => undefined);
    client.on('authentication', (context) => context.accept());
  });
  return listenOnLoopback(server);
}

test.each(Object.keys(keyPairs) as (keyof typeof keyPairs)[])(
  'a host with keys of several types is asked for the known one: %s',
  async (type) => {
    const directory = await mkdtemp(join(tmpdir(), 'lessor-host-keys-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const privateKeyPath = join(directory, 'key');
    await writeFile(privateKeyPath, newKeyPair().private);
    const port = await startServer();
    const config = sshConfigSchema.parse({
      host: '127.0.0.1',
      port,
      username: 'anybody',
      remoteWorkspacePath: '/srv',
      privateKey: `file:${privateKeyPath}`,
      knownHosts: `[127.0.0.1]:${port} ${keyPairs[type].public}`,
    });
    const connection = await SshConnection.connect(config, { secrets, signal: noAbort() });
    expect(connection.hostKeySummary).toContain(`${type} SHA256:`);
    await connection.close();
  },
);
